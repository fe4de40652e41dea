import { setTimeout as delay } from 'node:timers/promises';
import pLimit from 'p-limit';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { reload } from '../faults/harness.ts';
import { ScriptedMlflow } from '../support/scripted-mlflow.ts';
import { type RunningSidecar, startSidecar } from '../support/sidecar.ts';
import { account } from './account.ts';
import { fastClock } from './clock.ts';
import { pathsOf, readWhole, type Shape } from './content.ts';
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
import { type Plan, Trouble } from './trouble.ts';

const KILLS = SIZES.boundaryKills;
const AT_ONCE = 2;
const SHAPE: Shape = { files: 8, bytes: 10 * 1024 };
/** Some records are saved after the answer. */
const BACKGROUND_MS = 300;

interface Boundary {
  readonly name: string;
  /** The operations at it. */
  readonly match: RegExp;
  readonly shape: Shape;
  readonly env: Readonly<Record<string, string>>;
  readonly clockTimes: number;
  /** Publishes that nothing happens to, before the kills and after them. */
  readonly undisturbed: number;
}

/** Everything of a publish but what only a cache without room does. */
const PLAIN = { shape: SHAPE, env: {}, clockTimes: 1, undisturbed: 1 } as const;

const BOUNDARIES: readonly Boundary[] = [
  { name: 'a temporary file', match: /^(create|write\w*) tmp\/.*\/(?!owner\.json)[^/]+$/, ...PLAIN },
  {
    name: "a large file's parts",
    match: /^\S+ tmp\/.*\/partial-/,
    ...PLAIN,
    shape: { files: 2, bytes: 10 * 1024, large: 20 * 1024 * 1024 },
  },
  { name: 'an fsync', match: /^sync /, ...PLAIN },
  { name: 'a blob', match: /^(link|rename) .* -> blobs\//, ...PLAIN },
  { name: "a snapshot's layout", match: /^(link|copyFile) blobs\/.* -> tmp\//, ...PLAIN },
  { name: 'a snapshot', match: /^rename .* -> snapshots\//, ...PLAIN },
  { name: 'the switch', match: /^rename .* -> (refs|models)\//, ...PLAIN },
  {
    // There is room for three versions, and what was superseded 50 ms ago may go.
    name: 'a collection',
    match: /^(rename (blobs|snapshots)\/.* -> tmp\/|rm state\/manifests\/)/,
    shape: { files: 3, bytes: 114 * 1024 },
    env: { SIDECAR_CACHE_MAX_BYTES: '1100000' },
    clockTimes: 600,
    undisturbed: 4,
  },
];

let upstream: ScriptedMlflow;
beforeAll(async () => {
  upstream = await ScriptedMlflow.start();
});
afterAll(() => upstream.close());

interface Scene {
  readonly boundary: Boundary;
  readonly name: string;
  readonly uri: string;
  readonly cacheDir: string;
  readonly trouble: Trouble;
  readonly start: () => Promise<RunningSidecar>;
}

async function makeScene(boundary: Boundary, name: string): Promise<Scene> {
  const cacheDir = await makeCache();
  onTestFinished(() => removeCache(cacheDir));
  const trouble = await Trouble.make();
  const start = async () => {
    const sidecar = await startSidecar({
      ...upstream.env,
      ...trouble.env,
      ...boundary.env,
      ...fastClock(boundary.clockTimes, trouble.env['NODE_OPTIONS']),
      SIDECAR_CACHE_DIR: cacheDir,
    });
    onTestFinished(async () => void (await sidecar.stop()));
    return sidecar;
  };
  return { boundary, name, uri: `models:/${name}/${REF}`, cacheDir, trouble, start };
}

/** Whether it died of the plan. */
async function reloadUnder(plan: Plan, { uri, trouble }: Scene, sidecar: RunningSidecar): Promise<boolean> {
  await trouble.plan(plan);
  await reload(sidecar.url, uri, { force: true }).catch(() => undefined);
  await Promise.race([sidecar.exited, delay(BACKGROUND_MS)]);
  const isKilled = (await trouble.counted()).length >= (plan.nth ?? 1);
  await trouble.clear();
  if (isKilled) expect(await sidecar.exited).toBe(null);
  return isKilled;
}

/** Publishes versions that nothing happens to; returns the last. */
async function publishSome(scene: Scene, sidecar: RunningSidecar): Promise<string> {
  let version = '';
  for (let n = 0; n < scene.boundary.undisturbed; n++) {
    version = addVersion(upstream, scene.boundary.shape, scene.name);
    const { outcome } = await reload(sidecar.url, scene.uri);
    expect(outcome).toMatchObject({ status: 'loaded', version, warning: null });
  }
  return version;
}

/** How many of these operations one publish has. */
async function countOf({ boundary, name, trouble, uri }: Scene, sidecar: RunningSidecar): Promise<number> {
  await trouble.plan({ match: boundary.match, nth: 0, act: 'none' });
  addVersion(upstream, boundary.shape, name);
  const { outcome } = await reload(sidecar.url, uri);
  expect(outcome).toMatchObject({ status: 'loaded', files: pathsOf(boundary.shape).length });
  const { length } = await trouble.counted();
  await trouble.clear();
  return length;
}

/** Kills a sidecar again and again at one boundary; what went wrong, and what the readers saw. */
async function killAt(scene: Scene, random: () => number) {
  const { match, name: boundary, shape } = scene.boundary;
  let sidecar = await scene.start();
  let wanted = await publishSome(scene, sidecar);
  const operations = await countOf(scene, sidecar);
  expect(operations, boundary).toBeGreaterThan(0);
  const ref = refPath(scene.cacheDir, scene.name);
  const reader = await startReader(ref);
  const lost: string[] = [];
  let kills = 0;
  for (let tries = 0; kills < KILLS && tries < 3 * KILLS; tries++) {
    const before = await readWhole(ref);
    if (Number(before) >= Number(wanted)) wanted = addVersion(upstream, shape, scene.name);
    const nth = 1 + Math.floor(random() * operations);
    const act = kills % 2 === 0 ? 'kill-before' : 'kill-after';
    // Of a version that was killed half-way some work is done already: then there are fewer.
    if (!(await reloadUnder({ match, nth, act }, scene, sidecar))) continue;
    kills += 1;
    sidecar = await scene.start();
    const [given, shown] = [await readWhole(ref).catch(String), await shownVersion(sidecar.url, scene.name)];
    if (given !== shown || (given !== before && given !== wanted)) {
      lost.push(`${act} ${boundary} ${nth}: ${before} was published, ${wanted} wanted, ${given} given`);
    }
  }
  const last = await reload(sidecar.url, scene.uri);
  expect(last.outcome).toMatchObject({ version: wanted, warning: null });
  await publishSome(scene, sidecar);
  const { rounds, faults, versions } = await reader.stop();
  await sidecar.stop();
  sidecar = await scene.start();
  const left = await faultsOf(scene.cacheDir, sidecar.pid);
  await sidecar.stop();
  return { boundary, operations, kills, reads: rounds, versions: versions.length, torn: faults, lost, left };
}

test(
  `kill -9 ${KILLS} times at each boundary of a publish: nothing torn, nothing lost, nothing left`,
  async () => {
    const limit = pLimit(AT_ONCE);
    const seed = givenSeed();
    const results = await allOf(
      BOUNDARIES.map((boundary, n) =>
        limit(async () => killAt(await makeScene(boundary, `bound-${n}`), seeded(seed + n))),
      ),
    );
    const count = (list: readonly string[]) => list.length;
    console.table(
      results.map(r => ({ ...r, torn: count(r.torn), lost: count(r.lost), left: count(r.left) })),
    );
    for (const { boundary, kills, reads, torn, lost, left } of results) {
      await account(`kill -9 at ${boundary}`, { kills, reads, torn: torn.length, lost: lost.length });
      expect({ boundary, kills, torn, lost, left }).toEqual({
        boundary,
        kills: KILLS,
        torn: [],
        lost: [],
        left: [],
      });
    }
  },
  60_000 + BOUNDARIES.length * KILLS * 6_000,
);
