import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { z } from 'zod';
import { reload } from '../faults/harness.ts';
import { ScriptedMlflow } from '../support/scripted-mlflow.ts';
import { type RunningSidecar, startSidecar } from '../support/sidecar.ts';
import { readWhole } from './content.ts';
import {
  addVersion,
  faultsOf,
  makeCache,
  NAME,
  REF,
  refPath,
  removeCache,
  seeded,
  startReader,
} from './harness.ts';

const KILLS = 20;
/** The reader beside it makes a reload longer than the first one: some kills are to fall around the switch. */
const SPREAD = 1.8;
const READY_WITHIN_MS = 2_000;
const URI = `models:/${NAME}/${REF}`;

const Model = z.object({ refs: z.array(z.object({ ref: z.string(), version: z.string().nullable() })) });

let upstream: ScriptedMlflow;
let cacheDir: string;
let env: Readonly<Record<string, string>>;

beforeAll(async () => {
  upstream = await ScriptedMlflow.start();
  cacheDir = await makeCache();
  env = { ...upstream.env, SIDECAR_CACHE_DIR: cacheDir };
});

afterAll(async () => {
  await upstream.close();
  await removeCache(cacheDir);
});

async function startTimed(): Promise<{ readonly sidecar: RunningSidecar; readonly readyMs: number }> {
  const started = performance.now();
  const sidecar = await startSidecar(env);
  onTestFinished(async () => void (await sidecar.stop()));
  const { status } = await fetch(`${sidecar.url}/readyz`);
  expect(status).toBe(200);
  return { sidecar, readyMs: performance.now() - started };
}

/** The version that the sidecar says is published. */
async function shownVersion(sidecar: RunningSidecar): Promise<string | null> {
  const response = await fetch(`${sidecar.url}/v1/models/${NAME}`);
  const { refs } = Model.parse(await response.json());
  return refs.find(({ ref }) => ref === REF)?.version ?? null;
}

/** Kills it `ms` after a forced reload began, or as soon as that has answered. */
async function killDuringReload(sidecar: RunningSidecar, ms: number): Promise<number> {
  const started = performance.now();
  const cut = reload(sidecar.url, URI, { force: true }).catch(() => undefined);
  await Promise.race([cut, delay(ms)]);
  const killedMs = performance.now() - started;
  process.kill(sidecar.pid, 'SIGKILL');
  await Promise.all([cut, sidecar.exited]);
  return Math.round(killedMs);
}

test(`kill -9 at ${KILLS} random moments of a forced reload of 1,000 files: only whole versions, back in 2 s`, async () => {
  const seed = Number(process.env['CRASH_SEED'] ?? Date.now() % 1_000_000);
  console.log(`CRASH_SEED=${seed}`);
  const random = seeded(seed);
  let wanted = addVersion(upstream);
  let { sidecar } = await startTimed();
  const first = await reload(sidecar.url, URI, { force: true });
  expect(first.outcome).toMatchObject({ status: 'loaded', version: wanted, files: 1_000 });
  const reader = startReader(cacheDir);
  const kills: object[] = [];
  for (let n = 0; n < KILLS; n++) {
    // A version whose download was killed stays wanted until it is there.
    if ((await readWhole(refPath(cacheDir))) === wanted) wanted = addVersion(upstream);
    const afterMs = await killDuringReload(sidecar, random() * first.ms * SPREAD);
    const back = await startTimed();
    sidecar = back.sidecar;
    expect(back.readyMs).toBeLessThan(READY_WITHIN_MS);
    const published = await shownVersion(sidecar);
    expect(published).toBe(await readWhole(refPath(cacheDir)));
    kills.push({ 'killed after ms': afterMs, wanted, published, 'ready in ms': Math.round(back.readyMs) });
  }
  console.table(kills);
  const last = await reload(sidecar.url, URI);
  expect(last.outcome).toMatchObject({ version: wanted, warning: null });
  const seen = await reader.stop();
  console.log(`read ${seen.rounds} times: versions ${seen.versions.join(', ')}`);
  expect(seen.faults).toEqual([]);
  expect(seen.rounds).toBeGreaterThan(KILLS);
  expect(await sidecar.stop()).toBe(0);
  ({ sidecar } = await startTimed());
  expect(await faultsOf(cacheDir, sidecar.pid)).toEqual([]);
  expect(await shownVersion(sidecar)).toBe(wanted);
  await sidecar.stop();
}, 150_000);
