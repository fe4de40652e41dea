import { readdir, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from 'vitest';
import type { ErrorCode } from '../../src/domain/errors.ts';
import { reload } from '../faults/harness.ts';
import { atMost, SOON } from '../support/limits.ts';
import { ScriptedMlflow } from '../support/scripted-mlflow.ts';
import { type RunningSidecar, startSidecar } from '../support/sidecar.ts';
import { account } from './account.ts';
import { filesBelow, readWhole, type Shape } from './content.ts';
import { addVersion, makeCache, REF, refPath, removeCache, startReader } from './harness.ts';
import { SIZES } from './sizes.ts';
import { type Act, Trouble } from './trouble.ts';

const SHAPE: Shape = { files: 3, bytes: 10 * 1024 };
/** A beginning of 8 MiB and more is kept when the rest does not come. */
const WITH_LARGE: Shape = { files: 2, bytes: 1024, large: 12 * 1024 * 1024 };
const EVERY = /./;
/** On the large file's way in. */
const OF_LARGE = /partial/;
/** What could not be removed stays until the process ends. */
const REMOVAL = /^(rm|lstat|unlink) tmp\//;
/** More operations than any of these publishes has. */
const MOST = 1_000;
/** Some records are saved after the answer. */
const SETTLES_WITHIN_MS = 1_000;
const LIMIT_MS = 600_000;

/** What the sidecar calls these. */
const CODES: readonly (readonly [Act, ErrorCode])[] = [
  ['ENOSPC', 'disk_full'],
  ['EIO', 'internal'],
  ['EROFS', 'disk_full'],
];

let upstream: ScriptedMlflow;
beforeAll(async () => {
  upstream = await ScriptedMlflow.start();
});
afterAll(() => upstream.close());

interface Scene {
  readonly sidecar: RunningSidecar;
  readonly trouble: Trouble;
  readonly cacheDir: string;
  readonly shape: Shape;
  /** The operations that fail. */
  readonly match: RegExp;
  /** Of these every so many, each with a publish of its own. */
  readonly every: number;
  /** What was left before. */
  readonly litter: Set<string>;
}

async function makeScene({ shape, match, every }: Pick<Scene, 'shape' | 'match' | 'every'>): Promise<Scene> {
  const cacheDir = await makeCache();
  onTestFinished(() => removeCache(cacheDir));
  const trouble = await Trouble.make();
  const sidecar = await startSidecar({ ...upstream.env, ...trouble.env, SIDECAR_CACHE_DIR: cacheDir });
  onTestFinished(async () => void (await sidecar.stop()));
  return { sidecar, trouble, cacheDir, shape, match, every, litter: new Set() };
}

/** Files in work and open handles. */
async function openIn({ cacheDir, sidecar }: Scene): Promise<readonly string[]> {
  const tmp = (await filesBelow(join(cacheDir, 'v1', 'tmp'))).filter(path => !path.endsWith('owner.json'));
  const fds = `/proc/${sidecar.pid}/fd`;
  const open = await Promise.all((await readdir(fds)).map(fd => readlink(join(fds, fd)).catch(() => '')));
  return [...tmp, ...open.filter(path => path.startsWith(cacheDir))];
}

/** Files that nobody will finish, and handles that nobody will close: those that are still there after a while. */
async function leftIn(scene: Scene): Promise<readonly string[]> {
  const end = performance.now() + atMost(SETTLES_WITHIN_MS);
  for (;;) {
    const left = (await openIn(scene)).filter(path => !scene.litter.has(path));
    if (left.length === 0) return [];
    if (performance.now() < end) {
      await delay(10);
      continue;
    }
    for (const path of left) scene.litter.add(path);
    return left;
  }
}

/** One reload of a new version, of which the n-th file operation fails. */
async function failOnce(scene: Scene, name: string, act: Act, nth: number) {
  const { sidecar, trouble, cacheDir, shape, match } = scene;
  const uri = `models:/${name}/${REF}`;
  const wanted = addVersion(upstream, shape, name);
  await trouble.plan({ match, nth, act });
  const { outcome } = await reload(sidecar.url, uri);
  const operation = (await trouble.counted())[nth - 1];
  await trouble.clear();
  const given = outcome.path === null ? null : await readWhole(outcome.path);
  const left = await leftIn(scene);
  const next = (await reload(sidecar.url, uri)).outcome;
  // What could not be written is written soon after the disk is well.
  const shown = await vi.waitFor(() => readWhole(refPath(cacheDir, name)), SOON);
  return { operation, wanted, outcome, given, left, next, shown };
}

type Failed = Awaited<ReturnType<typeof failOnce>>;

/** What is not as it should be after a file operation failed. */
function wrongWith(
  { operation, wanted, outcome, given, left, next, shown }: Failed,
  code: ErrorCode,
  before: string | null,
) {
  const wrong: string[] = [];
  const { status, warning } = outcome;
  if (status === 'loaded') {
    if (given !== wanted) wrong.push(`loaded, but given ${given}`);
  } else {
    if (status !== (before === null ? 'failed' : 'stale')) wrong.push(`status ${status}`);
    if (given !== before) wrong.push(`given ${given} instead of ${before}`);
    if (warning?.code !== code || warning.hint === null) wrong.push(`warning ${JSON.stringify(warning)}`);
  }
  if (left.length > 0 && !REMOVAL.test(operation ?? '')) wrong.push(`left: ${left.join(', ')}`);
  if (next.warning !== null || next.version !== wanted || shown !== wanted) {
    wrong.push(`the next reload gave ${next.status} ${next.version} and shows ${shown}`);
  }
  return wrong;
}

/** Fails operations of a publish, each in a publish of its own; `nameOf` the n-th publish's model. */
async function failEach(
  scene: Scene,
  [act, code]: (typeof CODES)[number],
  from: number,
  nameOf: (nth: number) => string,
) {
  const wrong: string[] = [];
  const outcomes: Record<string, number> = {};
  let failures = 0;
  for (let nth = from; nth <= MOST; nth += scene.every) {
    const name = nameOf(nth);
    const before = upstream.models.versionsOf(name).length;
    const failed = await failOnce(scene, name, act, nth);
    if (failed.operation === undefined) break;
    failures += 1;
    const { status } = failed.outcome;
    outcomes[status] = (outcomes[status] ?? 0) + 1;
    const found = wrongWith(failed, code, before === 0 ? null : String(before));
    if (found.length > 0) wrong.push(`${act} at ${nth}, ${failed.operation}: ${found.join('; ')}`);
  }
  return { failures, outcomes, wrong };
}

test(
  'ENOSPC, EIO and EROFS at every file operation of a publish: the old version is given, the next reload succeeds',
  async () => {
    const scene = await makeScene({ shape: SHAPE, match: EVERY, every: SIZES.failEvery });
    const uri = `models:/warm/${REF}`;
    addVersion(upstream, SHAPE, 'warm');
    expect((await reload(scene.sidecar.url, uri)).outcome).toMatchObject({ status: 'loaded' });
    const reader = await startReader(refPath(scene.cacheDir, 'warm'), 2);
    const rows: object[] = [];
    const wrong: string[] = [];
    for (const [n, failure] of CODES.entries()) {
      const from = 1 + (n % scene.every);
      const warm = await failEach(scene, failure, from, () => 'warm');
      // Models that were never loaded, of files that are there already.
      const cold = await failEach(scene, failure, from, nth => `cold-${failure[0]}-${nth}`);
      for (const [kind, { failures, outcomes, wrong: found }] of Object.entries({ warm, cold })) {
        rows.push({ error: failure[0], kind, failures, ...outcomes, wrong: found.length });
        await account('file operations that failed', { failures, wrong: found.length });
        expect(failures).toBeGreaterThan(20);
      }
      wrong.push(...warm.wrong, ...cold.wrong);
    }
    console.table(rows);
    const seen = await reader.stop();
    await account('file operations that failed', { reads: seen.rounds, torn: seen.faults.length });
    expect(wrong).toEqual([]);
    expect(seen.faults).toEqual([]);
  },
  LIMIT_MS,
);

test(
  'ENOSPC and EIO at each file operation on a large file: the old version is given, the next reload succeeds, nothing is kept',
  async () => {
    const scene = await makeScene({ shape: WITH_LARGE, match: OF_LARGE, every: SIZES.failLargeEvery });
    const uri = `models:/large/${REF}`;
    addVersion(upstream, WITH_LARGE, 'large');
    expect((await reload(scene.sidecar.url, uri)).outcome).toMatchObject({ status: 'loaded' });
    const wrong: string[] = [];
    for (const [n, failure] of CODES.slice(0, 2).entries()) {
      const {
        failures,
        outcomes,
        wrong: found,
      } = await failEach(scene, failure, 1 + (n % scene.every), () => 'large');
      console.table([{ error: failure[0], failures, ...outcomes, wrong: found.length }]);
      await account('file operations on a large file that failed', { failures, wrong: found.length });
      expect(failures).toBeGreaterThan(8);
      wrong.push(...found);
    }
    expect(wrong).toEqual([]);
    expect(await filesBelow(join(scene.cacheDir, 'v1', 'state', 'partial'))).toEqual([]);
  },
  LIMIT_MS,
);
