import { setTimeout as delay } from 'node:timers/promises';
import pLimit from 'p-limit';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { reload } from '../faults/harness.ts';
import { ScriptedMlflow } from '../support/scripted-mlflow.ts';
import { type RunningSidecar, startSidecar } from '../support/sidecar.ts';
import { account } from './account.ts';
import { readWhole, type Shape } from './content.ts';
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

/** The operations at each boundary of a publish. */
const BOUNDARIES: readonly (readonly [name: string, match: RegExp])[] = [
  ['a temporary file', /^(create|write\w*) tmp\/.*\/(?!owner\.json)[^/]+$/],
  ['an fsync', /^sync /],
  ['a blob', /^(link|rename) .* -> blobs\//],
  ["a snapshot's layout", /^(link|copyFile) blobs\/.* -> tmp\//],
  ['a snapshot', /^rename .* -> snapshots\//],
  ['the switch', /^rename .* -> (refs|models)\//],
];

let upstream: ScriptedMlflow;
beforeAll(async () => {
  upstream = await ScriptedMlflow.start();
});
afterAll(() => upstream.close());

interface Scene {
  readonly name: string;
  readonly uri: string;
  readonly cacheDir: string;
  readonly trouble: Trouble;
  readonly start: () => Promise<RunningSidecar>;
}

async function makeScene(name: string): Promise<Scene> {
  const cacheDir = await makeCache();
  onTestFinished(() => removeCache(cacheDir));
  const trouble = await Trouble.make();
  const start = async () => {
    const sidecar = await startSidecar({ ...upstream.env, ...trouble.env, SIDECAR_CACHE_DIR: cacheDir });
    onTestFinished(async () => void (await sidecar.stop()));
    return sidecar;
  };
  return { name, uri: `models:/${name}/${REF}`, cacheDir, trouble, start };
}

/** Whether it died of the plan. */
async function reloadUnder(plan: Plan, { uri, trouble }: Scene, sidecar: RunningSidecar): Promise<boolean> {
  await trouble.plan(plan);
  await reload(sidecar.url, uri, { force: true }).catch(() => undefined);
  await Promise.race([sidecar.exited, delay(BACKGROUND_MS)]);
  const isKilled = (await trouble.counted()).length >= plan.nth;
  await trouble.clear();
  if (isKilled) expect(await sidecar.exited).toBe(null);
  return isKilled;
}

/** How many of these operations one publish has. */
async function countOf(match: RegExp, scene: Scene, sidecar: RunningSidecar): Promise<number> {
  await scene.trouble.plan({ match, nth: 0, act: 'none' });
  const { outcome } = await reload(sidecar.url, scene.uri, { force: true });
  expect(outcome).toMatchObject({ status: 'loaded', files: SHAPE.files });
  const { length } = await scene.trouble.counted();
  await scene.trouble.clear();
  return length;
}

/** Kills a sidecar again and again at one boundary; what went wrong, and what the readers saw. */
async function killAt(boundary: string, match: RegExp, scene: Scene, random: () => number) {
  let wanted = addVersion(upstream, SHAPE, scene.name);
  let sidecar = await scene.start();
  const operations = await countOf(match, scene, sidecar);
  expect(operations, boundary).toBeGreaterThan(0);
  const ref = refPath(scene.cacheDir, scene.name);
  const reader = startReader(ref);
  const lost: string[] = [];
  let kills = 0;
  for (let tries = 0; kills < KILLS && tries < 3 * KILLS; tries++) {
    const before = await readWhole(ref);
    if (before === wanted) wanted = addVersion(upstream, SHAPE, scene.name);
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
      BOUNDARIES.map(([boundary, match], n) =>
        limit(async () => killAt(boundary, match, await makeScene(`bound-${n}`), seeded(seed + n))),
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
