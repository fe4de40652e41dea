import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, open, readdir, rm, writeFile } from 'node:fs/promises';
import { get, type IncomingMessage } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, onTestFinished, test } from 'vitest';
import { z } from 'zod';
import { atMost } from '../support/limits.ts';
import { loadModel } from '../support/mlflow-load.ts';
import { ScriptedMlflow } from '../support/scripted-mlflow.ts';
import { startSidecar } from '../support/sidecar.ts';
import { modelFiles, reload, until } from './harness.ts';

const PRELOAD = fileURLToPath(new URL('../support/preload/hang-disk.mjs', import.meta.url));
const ARTIFACTS = '/api/2.0/mlflow-artifacts/artifacts';
const URI = 'models:/m/Production';
/** More than what the system takes for a client that reads nothing. */
const LARGE = Buffer.alloc(64 * 1024 * 1024, 'x');

const Address = z.object({ artifact_uri: z.url() });

/** A sidecar with one model in its cache, and a disk that hangs while it is told to. */
async function start(more: Readonly<Record<string, Buffer>> = {}) {
  const dir = await mkdtemp(join(tmpdir(), 'sidecar-proxy-disk-'));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  const [flag, fifo, cacheDir] = [join(dir, 'flag'), join(dir, 'fifo'), join(dir, 'cache')];
  await promisify(execFile)('mkfifo', [fifo]);
  const upstream = await ScriptedMlflow.start();
  onTestFinished(() => upstream.close());
  const files = { ...modelFiles('m'), ...more };
  const version = upstream.addVersion({
    name: 'm',
    stage: 'Production',
    files,
    runFiles: { 'model/of-run': 'x' },
  });
  const sidecar = await startSidecar({
    ...upstream.env,
    SIDECAR_CACHE_DIR: cacheDir,
    SIDECAR_REFRESH_WAIT_S: '0.5',
    UV_THREADPOOL_SIZE: '64',
    NODE_OPTIONS: `--import=${PRELOAD}`,
    HANG_DISK_DIR: cacheDir,
    HANG_DISK_FLAG: flag,
    HANG_DISK_FIFO: fifo,
  });
  onTestFinished(async () => {
    await rm(flag, { force: true });
    const writer = await open(fifo, 'r+');
    await delay(200);
    await writer.close();
    await sidecar.stop();
  });
  await reload(sidecar.url, URI);
  const asked = await fetch(`${sidecar.url}/api/2.0/mlflow/model-versions/get-download-uri?name=m&version=1`);
  const { artifact_uri } = Address.parse(await asked.json());
  const address = (path: string) => `${artifact_uri}/${path}`;
  return { upstream, version, sidecar, address, files, hang: () => writeFile(flag, '') };
}

async function begun(url: string): Promise<IncomingMessage> {
  const request = get(url, { agent: false });
  return await new Promise((resolve, reject) => request.on('response', resolve).on('error', reject));
}

test('a disk that hangs in the middle of stored files cuts them within seconds', async () => {
  const { address, hang } = await start({ large: LARGE });
  const answers = await Promise.all(Array.from({ length: 12 }, () => begun(address('large'))));
  await delay(200);
  await hang();
  const startedAt = performance.now();
  const ends = answers.map(async answer => {
    let bytes = 0;
    const closed = once(answer, 'close').catch(() => undefined);
    answer.on('error', () => undefined).on('data', (chunk: Buffer) => (bytes += chunk.byteLength));
    await closed;
    return { bytes, isWhole: answer.complete };
  });
  for (const { bytes, isWhole } of await Promise.all(ends)) {
    expect(isWhole).toBe(false);
    expect(bytes).toBeLessThan(LARGE.byteLength);
  }
  expect(performance.now() - startedAt).toBeLessThan(atMost(7_000));
});

test('SIGTERM ends a sidecar of which only reads of stored files hang', async () => {
  const { address, sidecar, hang } = await start({ large: LARGE });
  const answers = await Promise.all(Array.from({ length: 12 }, () => begun(address('large'))));
  for (const answer of answers) answer.on('error', () => undefined);
  await hang();
  for (const answer of answers) answer.resume();
  // They hang, and are given up before the process is told to end.
  await Promise.all(answers.map(answer => once(answer, 'close').catch(() => undefined)));
  await sidecar.stop();
  // Else it was killed: see `stop`.
  expect(sidecar.logs()).toMatch(/Stopped, without waiting for the disk/);
  expect(await sidecar.signal).toBe('SIGTERM');
}, 30_000);

test('a snapshot that somebody removed is loaded anew, and no error', async () => {
  const { sidecar, files, address } = await start();
  await loadModel(sidecar.url, URI);
  const snapshots = join(sidecar.cacheDir, 'v1', 'snapshots');
  for (const name of await readdir(snapshots)) await rm(join(snapshots, name), { recursive: true });
  const part = await fetch(address('MLmodel'), { headers: { range: 'bytes=0-1' } });
  expect(part.status).toBe(206);
  expect((await part.text()).length).toBe(2);
  await until(5_000, async () => ((await readdir(snapshots)).length > 0 ? true : null));
  const loaded = await loadModel(sidecar.url, URI);
  expect(new Set(loaded.files.keys())).toEqual(new Set(Object.keys(files)));
  expect(loaded.files.get('MLmodel')?.equals(Buffer.from(files['MLmodel'] ?? ''))).toBe(true);
});

test('what is given of a run instead of what MLflow would say names its age', async () => {
  const { upstream, version, sidecar } = await start();
  const { outcome } = await reload(sidecar.url, `runs:/${version.runId}/model`);
  expect(outcome.warning).toBeNull();
  await upstream.setFault('file', { kind: 'silent' });
  await upstream.setFault('listing', { kind: 'silent' });
  const run = `0/${version.runId}/artifacts/model`;
  const listing = `${sidecar.url}/api/2.0/mlflow-artifacts/artifacts?path=${encodeURIComponent(run)}`;
  for (const url of [`${sidecar.url}${ARTIFACTS}/${run}/MLmodel`, listing]) {
    const answer = await fetch(url);
    await answer.arrayBuffer();
    expect(answer.status, url).toBe(200);
    expect(answer.headers.get('x-sidecar-stale'), url).not.toBeNull();
    expect(answer.headers.get('age'), url).toMatch(/^\d+$/);
  }
});
