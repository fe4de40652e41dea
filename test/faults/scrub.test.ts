import { execFile } from 'node:child_process';
import { chmod, mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, beforeEach, expect, onTestFinished, test } from 'vitest';
import { startApp } from '../../src/app.ts';
import { loadOptions } from '../../src/config/load.ts';
import { EventBus, type SidecarEvent } from '../../src/domain/events.ts';
import { filesBelow } from '../crash/content.ts';
import { atMost } from '../support/limits.ts';
import { type Files, ScriptedMlflow } from '../support/scripted-mlflow.ts';
import { startSidecar } from '../support/sidecar.ts';
import { GRACE_MS, reload, until, wrongFiles } from './harness.ts';

const MAIN = fileURLToPath(new URL('../../dist/main.js', import.meta.url));
const VERSIONS = Array.from({ length: 20 }, (_, n) => String(n + 1));
const FILES = 50;

let upstream: ScriptedMlflow;
let cacheDir: string;

beforeAll(async () => {
  upstream = await ScriptedMlflow.start();
  for (const version of VERSIONS) upstream.addVersion({ name: 'scrub', version, files: filesOf(version) });
});

afterAll(() => upstream.close());

beforeEach(async () => {
  await upstream.clearFaults();
  cacheDir = await mkdtemp(join(tmpdir(), 'sidecar-scrub-'));
  const dir = cacheDir;
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
});

function filesOf(version: string): Files {
  const contents = Array.from({ length: FILES }, (_, n) => [
    n === 0 ? 'MLmodel' : `data/${n}.bin`,
    `file ${n} of ${version}\n`.repeat(20),
  ]);
  return Object.fromEntries(contents);
}

/** Its breaker stays closed: what is cached is the question here. */
function envOfSidecar(): Readonly<Record<string, string>> {
  return { ...upstream.env, SIDECAR_CACHE_DIR: cacheDir, SIDECAR_BREAKER_FAILURES: '1000' };
}

const uriOf = (version: string): string => `models:/scrub/${version}`;

/** A thousand blobs, every second one by a bit, the others by their end. */
async function damageAll(): Promise<number> {
  const blobs = await filesBelow(join(cacheDir, 'v1/blobs'));
  for (const [n, name] of blobs.entries()) {
    const path = join(cacheDir, 'v1/blobs', name);
    await chmod(path, 0o644);
    if (n % 2 === 0) await truncate(path, n % 50);
    else await flip(path, n);
    await chmod(path, 0o444);
  }
  return blobs.length;
}

async function flip(path: string, at: number): Promise<void> {
  const content = await readFile(path);
  content[at % content.length] = (content[at % content.length] ?? 0) ^ 64;
  await writeFile(path, content);
}

function verify(): Promise<{ readonly code: number; readonly stdout: string }> {
  const env = { ...upstream.env, PATH: process.env['PATH'] ?? '', SIDECAR_CACHE_DIR: cacheDir };
  return new Promise(resolve => {
    execFile(process.execPath, [MAIN, 'verify'], { env, maxBuffer: 10_000_000 }, (error, stdout) =>
      resolve({ code: typeof error?.code === 'number' ? error.code : 0, stdout }),
    );
  });
}

test('1,000 damaged blobs: after `verify` beside the sidecar none is given, and each is repaired once MLflow is up', async () => {
  const sidecar = await startSidecar(envOfSidecar());
  onTestFinished(async () => void (await sidecar.stop()));
  for (const version of VERSIONS) await reload(sidecar.url, uriOf(version));
  expect(await verify()).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(/✅ All is well: 1000 files/),
  });
  expect(await damageAll()).toBe(1_000);
  const { code, stdout } = await verify();
  expect(code).toBe(1);
  expect(stdout.match(/^❌ snapshots\/\S+ /gm)).toHaveLength(1_000);
  expect(stdout).toContain('❌ Damaged: 1000; read: ');
  await upstream.setFault('registry', { kind: 'refused' });
  for (const version of VERSIONS) {
    const { outcome } = await reload(sidecar.url, uriOf(version), { deadline_s: 0.2 });
    expect(outcome).toMatchObject({ status: 'failed', path: null });
  }
  await upstream.clearFaults();
  for (const version of VERSIONS) {
    const { outcome } = await reload(sidecar.url, uriOf(version));
    expect(outcome).toMatchObject({ version, warning: null });
    expect(await wrongFiles(outcome.path, filesOf(version))).toEqual([]);
  }
  expect(await verify()).toMatchObject({ code: 0 });
});

async function startWithScrub(scrubAfterMs?: number) {
  const { options } = loadOptions({
    flags: {},
    env: { ...envOfSidecar(), SIDECAR_PORT: '0' },
  });
  if (options === null) throw new Error('the options are wrong');
  const seen: SidecarEvent[] = [];
  const events = new EventBus();
  events.subscribe(event => seen.push(event));
  const app = await startApp(options, events, scrubAfterMs);
  let stopping: Promise<boolean> | null = null;
  const stop = async (): Promise<void> => {
    stopping ??= app.stop(AbortSignal.timeout(2_000));
    await stopping;
  };
  onTestFinished(stop);
  return { url: app.url, seen, stop };
}

test('1,000 damaged blobs: the sidecar finds them itself, gives none, and fetches each again unasked', async () => {
  const before = await startWithScrub();
  for (const version of VERSIONS) await reload(before.url, uriOf(version));
  await before.stop();
  await damageAll();
  const { url, seen } = await startWithScrub(0);
  const finished = () => seen.find(event => event.type === 'scrub_finished');
  await until(60_000, async () => finished() ?? null);
  expect(finished()).toMatchObject({ damaged: 1_000 });
  expect(seen.filter(event => event.type === 'blob_damaged')).toHaveLength(1_000);
  await until(60_000, async () =>
    seen.filter(event => event.type === 'run_finished').length === 20 ? true : null,
  );
  await upstream.setFault('registry', { kind: 'refused' });
  for (const version of VERSIONS) {
    const { outcome } = await reload(url, uriOf(version), { refresh_wait_s: 0.05 });
    expect(outcome).toMatchObject({ status: 'stale', version });
    expect(await wrongFiles(outcome.path, filesOf(version))).toEqual([]);
  }
  const status = await (await fetch(`${url}/v1/status`)).json();
  expect(status).toMatchObject({
    cache: { scrub: { damaged: 1_000, last_finished_at: expect.any(Number) } },
  });
});

test('a call that waits for a newer version is not given the old one that is found damaged meanwhile', async () => {
  upstream.addVersion({ name: 'waits', stage: 'Production', files: filesOf('old') });
  const before = await startWithScrub();
  await reload(before.url, 'models:/waits/Production');
  await before.stop();
  await damageAll();
  upstream.addVersion({ name: 'waits', stage: 'Production', files: filesOf('new') });
  await upstream.setFault('file', { kind: 'silent' });
  const { url, seen } = await startWithScrub(500);
  const { outcome, ms } = await reload(url, 'models:/waits/Production', { deadline_s: 4 });
  expect(seen.map(event => event.type)).toContain('blob_damaged');
  expect(outcome).toMatchObject({ status: 'failed', path: null, warning: { code: 'deadline_exceeded' } });
  expect(ms).toBeLessThan(atMost(4_000 + GRACE_MS));
});

test('a sidecar notices what `verify` took away: the link and the record follow, and the reason is told', async () => {
  const sidecar = await startSidecar(envOfSidecar());
  onTestFinished(async () => void (await sidecar.stop()));
  await reload(sidecar.url, uriOf('1'));
  await damageAll();
  await verify();
  await upstream.setFault('registry', { kind: 'status', status: 503 });
  const { outcome } = await reload(sidecar.url, uriOf('1'), { deadline_s: 0.3 });
  expect(outcome).toMatchObject({ status: 'failed', path: null, refreshing: true });
  const root = join(cacheDir, 'v1');
  await until(2_000, async () => ((await filesBelow(join(root, 'models'))).length === 0 ? true : null));
  const record = await readFile(join(root, 'refs/scrub/1.json'), 'utf8');
  expect(JSON.parse(record)).toMatchObject({ snapshot: null, published: null, confirmed_at: null });
});
