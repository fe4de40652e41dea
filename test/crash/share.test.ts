import { execFile } from 'node:child_process';
import { lstat, readdir, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { reload } from '../faults/harness.ts';
import { atMost } from '../support/limits.ts';
import { ScriptedMlflow } from '../support/scripted-mlflow.ts';
import { type RunningSidecar, startSidecar } from '../support/sidecar.ts';
import { contentOf, filesBelow, readWhole, type Shape } from './content.ts';
import { addVersion, faultsOf, makeCache, NAME, REF, refPath, removeCache, startReader } from './harness.ts';

const URI = `models:/${NAME}/${REF}`;
const NOBODY = 65_534;
const SHAPE: Shape = { files: 300, bytes: 10 * 1024 };

let upstream: ScriptedMlflow;
let cacheDir: string;

beforeAll(async () => {
  upstream = await ScriptedMlflow.start();
  cacheDir = await makeCache();
  addVersion(upstream, SHAPE);
});

afterAll(async () => {
  await upstream.close();
  await removeCache(cacheDir);
});

async function start(): Promise<RunningSidecar> {
  const sidecar = await startSidecar({ ...upstream.env, SIDECAR_CACHE_DIR: cacheDir });
  onTestFinished(async () => void (await sidecar.stop()));
  return sidecar;
}

test('two sidecars on one cache, reloading in turn and at once: readers see whole versions only', async () => {
  const [one, two] = await Promise.all([start(), start()]);
  await reload(one.url, URI);
  const reader = await startReader(refPath(cacheDir));
  for (let n = 0; n < 2; n++) {
    const wanted = addVersion(upstream, SHAPE);
    const turn = n % 2 === 0 ? [one, two] : [two, one];
    for (const { url } of turn) {
      const { outcome } = await reload(url, URI, { force: n === 1 });
      expect(outcome).toMatchObject({ version: wanted, warning: null });
      expect(await readWhole(outcome.path ?? '')).toBe(wanted);
    }
  }
  const wanted = addVersion(upstream, SHAPE);
  const both = await Promise.all([one, two].map(({ url }) => reload(url, URI, { force: true })));
  for (const { outcome } of both) expect(outcome).toMatchObject({ status: 'loaded', version: wanted });
  expect(await readWhole(refPath(cacheDir))).toBe(wanted);
  const seen = await reader.stop();
  expect(seen.faults).toEqual([]);
  expect(seen.versions.length).toBeGreaterThan(1);
  await two.stop();
  expect(await faultsOf(cacheDir, one.pid)).toEqual([]);
});

test('what one of two sidecars confirms, its ref points to, though the other one switched it', async () => {
  const [one, two] = await Promise.all([start(), start()]);
  const older = String(upstream.models.versionsOf(NAME).length);
  await reload(one.url, URI);
  const newer = addVersion(upstream, SHAPE);
  expect((await reload(two.url, URI)).outcome).toMatchObject({ status: 'loaded', version: newer });
  upstream.models.moveStage(NAME, older, REF);
  const { outcome } = await reload(one.url, URI);
  expect(outcome).toMatchObject({ version: older, warning: null });
  expect(await readWhole(refPath(cacheDir))).toBe(older);
  upstream.models.moveStage(NAME, newer, REF);
});

test('SIGTERM in the middle of a download: gone within 5 s, and nothing torn', async () => {
  const sidecar = await start();
  await reload(sidecar.url, URI);
  const before = await readWhole(refPath(cacheDir));
  addVersion(upstream, SHAPE);
  await upstream.setFault(
    'file',
    { kind: 'silent' },
    { when: request => request.path.endsWith('/file-150.bin') },
  );
  const cut = reload(sidecar.url, URI).catch(() => undefined);
  await delay(1_000);
  const started = performance.now();
  process.kill(sidecar.pid, 'SIGTERM');
  expect(await sidecar.exited).toBe(0);
  expect(performance.now() - started).toBeLessThan(atMost(5_000));
  await cut;
  await upstream.clearFaults();
  expect(await readWhole(refPath(cacheDir))).toBe(before);
  expect(await readdir(join(cacheDir, 'v1', 'tmp'))).toEqual([]);
});

test('a second signal ends it at once', async () => {
  const sidecar = await start();
  addVersion(upstream, SHAPE);
  await upstream.setFault('file', { kind: 'silent' });
  const cut = reload(sidecar.url, URI).catch(() => undefined);
  await delay(500);
  process.kill(sidecar.pid, 'SIGTERM');
  await delay(50);
  const started = performance.now();
  if (isRunning(sidecar)) process.kill(sidecar.pid, 'SIGTERM');
  await sidecar.exited;
  expect(performance.now() - started).toBeLessThan(atMost(500));
  await cut;
  await upstream.clearFaults();
});

function isRunning({ pid }: RunningSidecar): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

test('files are 0444 and directories 0755, the sidecar’s own 0700', async () => {
  const sidecar = await start();
  await reload(sidecar.url, URI);
  const root = join(cacheDir, 'v1');
  const modes = new Set<string>();
  for (const shared of ['snapshots', 'models', 'refs', 'blobs']) {
    const entries = await readdir(join(root, shared), { recursive: true, withFileTypes: true });
    for (const entry of entries) {
      if (entry.isSymbolicLink()) continue;
      const { mode } = await lstat(join(entry.parentPath, entry.name));
      modes.add(`${entry.isDirectory() ? 'directory' : 'file'} ${(mode & 0o7777).toString(8)}`);
    }
  }
  expect(modes).toEqual(new Set(['directory 755', 'file 444']));
  for (const own of ['state', 'tmp']) expect((await lstat(join(root, own))).mode & 0o7777).toBe(0o700);
});

test('another user reads the model through its ref', async () => {
  const sidecar = await start();
  const { outcome } = await reload(sidecar.url, URI);
  const dir = await realpath(refPath(cacheDir));
  // Only root may become another user; anybody else reads as itself, and the modes are checked above.
  const user = process.getuid?.() === 0 ? { uid: NOBODY, gid: NOBODY } : {};
  const options = { ...user, cwd: '/', encoding: 'buffer', maxBuffer: 100_000_000 } as const;
  const last = (await filesBelow(dir)).at(-1) ?? '';
  const { stdout } = await promisify(execFile)('/bin/cat', [join(refPath(cacheDir), last)], options);
  expect(stdout.equals(contentOf(outcome.version ?? '', last, SHAPE))).toBe(true);
  const whole = await promisify(execFile)(
    '/bin/sh',
    ['-c', 'cat -- "$0"/* "$0"/data/*/* | wc -c', dir],
    options,
  );
  expect(Number(whole.stdout.toString())).toBe(outcome.bytes);
  if (process.getuid?.() !== 0) return;
  await expect(promisify(execFile)('/bin/ls', [join(cacheDir, 'v1', 'state')], options)).rejects.toThrow();
});
