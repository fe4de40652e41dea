import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { reload } from '../faults/harness.ts';
import { atMost } from '../support/limits.ts';
import { ScriptedMlflow } from '../support/scripted-mlflow.ts';
import { type RunningSidecar, startSidecar } from '../support/sidecar.ts';
import { account } from './account.ts';
import { readWhole } from './content.ts';
import {
  addVersion,
  allOf,
  faultsOf,
  givenSeed,
  makeCache,
  REF,
  refPath,
  removeCache,
  seeded,
  shownVersion,
  startReader,
} from './harness.ts';
import { SIZES } from './sizes.ts';

const { kills: KILLS, lanes: LANES, shape: SHAPE } = SIZES.random;
/** The reader beside it makes a reload longer than the first one: some kills are to fall around the switch. */
const SPREAD = 1.8;
/** Of the quicker quarter: how many others want the machine at one moment is not ours to say. */
const READY_WITHIN_MS = 2_000;

let upstream: ScriptedMlflow;

beforeAll(async () => {
  upstream = await ScriptedMlflow.start();
});

afterAll(() => upstream.close());

async function startTimed(cacheDir: string) {
  const started = performance.now();
  const sidecar = await startSidecar({ ...upstream.env, SIDECAR_CACHE_DIR: cacheDir });
  onTestFinished(async () => void (await sidecar.stop()));
  const { status } = await fetch(`${sidecar.url}/readyz`);
  expect(status).toBe(200);
  return { sidecar, readyMs: Math.round(performance.now() - started) };
}

/** Kills it `ms` after a forced reload began, or as soon as that has answered. */
async function killDuringReload(sidecar: RunningSidecar, uri: string, ms: number): Promise<number> {
  const started = performance.now();
  const cut = reload(sidecar.url, uri, { force: true }).catch(() => undefined);
  await Promise.race([cut, delay(ms)]);
  const killedMs = performance.now() - started;
  process.kill(sidecar.pid, 'SIGKILL');
  await Promise.all([cut, sidecar.exited]);
  return Math.round(killedMs);
}

/** Kills the sidecars of one cache, one after the other. */
async function killMany(name: string, random: () => number, count: number): Promise<readonly object[]> {
  const cacheDir = await makeCache();
  onTestFinished(() => removeCache(cacheDir));
  const [uri, ref] = [`models:/${name}/${REF}`, refPath(cacheDir, name)];
  let wanted = addVersion(upstream, SHAPE, name);
  let { sidecar } = await startTimed(cacheDir);
  const first = await reload(sidecar.url, uri, { force: true });
  expect(first.outcome).toMatchObject({ status: 'loaded', version: wanted, files: SHAPE.files });
  const reader = await startReader(ref);
  const kills: object[] = [];
  const readyMs: number[] = [];
  for (let n = 0; n < count; n++) {
    const before = await readWhole(ref);
    // A version whose download was killed stays wanted until it is there.
    if (before === wanted) wanted = addVersion(upstream, SHAPE, name);
    const killedMs = await killDuringReload(sidecar, uri, random() * first.ms * SPREAD);
    const back = await startTimed(cacheDir);
    sidecar = back.sidecar;
    readyMs.push(back.readyMs);
    const published = await shownVersion(sidecar.url, name);
    expect(published).toBe(await readWhole(ref));
    expect([before, wanted]).toContain(published);
    kills.push({ name, 'killed after ms': killedMs, wanted, published, 'ready in ms': back.readyMs });
  }
  const last = await reload(sidecar.url, uri);
  expect(last.outcome).toMatchObject({ version: wanted, warning: null });
  const seen = await reader.stop();
  console.log(`${name} was read ${seen.rounds} times: versions ${seen.versions.join(', ')}`);
  await account('kill -9 at random moments', { kills: count, reads: seen.rounds, torn: seen.faults.length });
  expect(seen.faults).toEqual([]);
  expect(seen.rounds).toBeGreaterThan(count);
  expect(await sidecar.stop()).toBe(0);
  ({ sidecar } = await startTimed(cacheDir));
  expect(await faultsOf(cacheDir, sidecar.pid)).toEqual([]);
  expect(await shownVersion(sidecar.url, name)).toBe(wanted);
  await sidecar.stop();
  expect(readyMs.toSorted((a, b) => a - b)[Math.floor(count / 4)]).toBeLessThan(atMost(READY_WITHIN_MS));
  return kills;
}

test(
  `kill -9 at ${KILLS} random moments of a forced reload of ${SHAPE.files} files: only whole versions, back in 2 s`,
  async () => {
    const seed = givenSeed();
    const lanes = Array.from({ length: LANES }, (_, n) =>
      killMany(`killed-${n}`, seeded(seed + n), KILLS / LANES),
    );
    const kills = await allOf(lanes);
    console.table(kills.flat());
  },
  30_000 + KILLS * 6_000,
);
