import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { reload, until } from '../faults/harness.ts';
import { atMost } from '../support/limits.ts';
import { ScriptedMlflow, type ScriptedVersion } from '../support/scripted-mlflow.ts';
import { type RunningSidecar, startSidecar } from '../support/sidecar.ts';
import { filesBelow, filesOf, readWhole, type Shape } from './content.ts';
import { faultsOf, makeCache, REF, removeCache } from './harness.ts';

const MIB = 1024 * 1024;
const SHAPE: Shape = { files: 2, bytes: 1024, large: 20 * MIB };
/** The first half of it is more than what is written between two checkpoints, 64 MiB. */
const HUGE: Shape = { ...SHAPE, large: 136 * MIB };
const CHECKPOINT_BYTES = 64 * MIB;
const STOP_LIMIT_MS = 5_000;

let upstream: ScriptedMlflow;
beforeAll(async () => {
  upstream = await ScriptedMlflow.start();
});
afterAll(() => upstream.close());

interface Scene {
  readonly uri: string;
  readonly version: ScriptedVersion;
  readonly cacheDir: string;
  readonly start: () => Promise<RunningSidecar>;
}

async function makeScene(name: string, shape: Shape): Promise<Scene> {
  const cacheDir = await makeCache();
  onTestFinished(() => removeCache(cacheDir));
  onTestFinished(() => upstream.clearFaults());
  const version = upstream.addVersion({ name, version: '1', stage: REF, files: filesOf('1', shape) });
  const start = async () => {
    const sidecar = await startSidecar({ ...upstream.env, SIDECAR_CACHE_DIR: cacheDir });
    onTestFinished(async () => void (await sidecar.stop()));
    return sidecar;
  };
  return { uri: `models:/${name}/${REF}`, version, cacheDir, start };
}

/** Requests for the large file that `work` causes. */
async function askedFor({ version }: Scene, work: () => Promise<unknown>) {
  const before = upstream.requests.length;
  await work();
  return upstream.requests
    .slice(before)
    .filter(({ path }) => path === `${version.root}/large.bin`)
    .map(({ headers, bytes }) => ({ range: headers.range, ifRange: headers['if-range'], bytes }));
}

/** Of every answer with the large file only the first half comes, and the connection stays. */
async function stall(): Promise<void> {
  await upstream.setFault('file', { kind: 'stall' }, { when: ({ path }) => path.endsWith('/large.bin') });
}

async function stopped({ pid, exited }: RunningSidecar): Promise<void> {
  const asked = performance.now();
  process.kill(pid, 'SIGTERM');
  expect(await exited).toBe(0);
  expect(performance.now() - asked).toBeLessThan(atMost(STOP_LIMIT_MS));
}

async function killed({ pid, exited }: RunningSidecar): Promise<void> {
  process.kill(pid, 'SIGKILL');
  await exited;
}

async function isThere(cacheDir: string, pattern: RegExp): Promise<true | null> {
  const paths = await filesBelow(join(cacheDir, 'v1', 'tmp')).catch(() => []);
  return paths.some(path => pattern.test(path)) ? true : null;
}

async function untilBytes({ cacheDir }: Scene, bytes: number): Promise<void> {
  const tmp = join(cacheDir, 'v1', 'tmp');
  await until(10_000, async () => {
    const names = (await filesBelow(tmp).catch(() => [])).filter(path => /\/partial-.*\/data$/.test(path));
    const sizes = await Promise.all(names.map(name => stat(join(tmp, name)).catch(() => ({ size: 0 }))));
    return sizes.some(({ size }) => size >= bytes) ? true : null;
  });
}

/** A reload that nobody hears of any more. */
function cutReload(sidecar: RunningSidecar, uri: string): void {
  reload(sidecar.url, uri, { deadline_s: 60 }).catch(() => undefined);
}

async function expectWhole(scene: Scene, sidecar: RunningSidecar, name = '1'): Promise<void> {
  const { outcome } = await reload(sidecar.url, scene.uri, { deadline_s: 60 });
  expect(outcome).toMatchObject({ status: 'loaded', version: '1', warning: null });
  expect(await readWhole(outcome.path ?? '')).toBe(name);
}

async function expectClean(scene: Scene, sidecar: RunningSidecar): Promise<void> {
  expect(await readdir(join(scene.cacheDir, 'v1', 'state', 'partial'))).toEqual([]);
  expect(await faultsOf(scene.cacheDir, sidecar.pid)).toEqual([]);
}

/** Two processes that end in the middle of it, the second one by kill -9; returns the request for the rest of what the first kept. */
async function breakOffTwice(scene: Scene) {
  await stall();
  const first = await scene.start();
  const whole = await askedFor(scene, async () => {
    cutReload(first, scene.uri);
    await untilBytes(scene, 9 * MIB);
    await stopped(first);
  });
  expect(whole).toEqual([{ range: undefined, ifRange: undefined, bytes: SHAPE.large }]);
  const second = await scene.start();
  const rest = await askedFor(scene, async () => {
    cutReload(second, scene.uri);
    await untilBytes(scene, 13 * MIB);
    await killed(second);
  });
  expect(rest).toHaveLength(1);
  expect(rest[0]?.bytes).toBeLessThanOrEqual(11 * MIB);
  expect(rest[0]?.range).toBe(`bytes=${20 * MIB - (rest[0]?.bytes ?? 0)}-${20 * MIB - 1}`);
  expect(rest[0]?.ifRange).toMatch(/^"[0-9a-f]+"$/);
  await upstream.clearFaults();
  return rest[0];
}

test('SIGTERM in the middle of 20 MiB ends it in time, and so does kill -9: the next process asks for the rest only, and the bytes are right', async () => {
  const scene = await makeScene('resumed', SHAPE);
  const rest = await breakOffTwice(scene);
  const third = await scene.start();
  expect(await askedFor(scene, () => expectWhole(scene, third))).toEqual([rest]);
  await expectClean(scene, third);
});

test('kill -9 in the middle of 20 MiB, and the file is another one then: the next process has it from its first byte', async () => {
  const scene = await makeScene('replaced', SHAPE);
  const rest = await breakOffTwice(scene);
  upstream.models.replaceFiles(scene.version, filesOf('other', SHAPE));
  const third = await scene.start();
  const asked = await askedFor(scene, () => expectWhole(scene, third, 'other'));
  expect(asked[0]).toEqual({ ...rest, bytes: SHAPE.large });
  await expectClean(scene, third);
});

test('kill -9 in the middle of 136 MiB: the next process begins at the checkpoint of the first', async () => {
  const scene = await makeScene('checkpoint', HUGE);
  await stall();
  const first = await scene.start();
  cutReload(first, scene.uri);
  await until(20_000, () => isThere(scene.cacheDir, /\/partial-.*\/info\.json$/));
  await killed(first);
  await upstream.clearFaults();
  const second = await scene.start();
  const asked = await askedFor(scene, () => expectWhole(scene, second));
  expect(asked).toHaveLength(1);
  expect(asked[0]?.bytes).toBeLessThanOrEqual((HUGE.large ?? 0) - CHECKPOINT_BYTES);
  expect(asked[0]?.ifRange).not.toBe(undefined);
  await expectClean(scene, second);
});
