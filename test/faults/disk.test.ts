import { execFile } from 'node:child_process';
import { mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, onTestFinished, test } from 'vitest';
import { atMost, IS_STRICT } from '../support/limits.ts';
import { ScriptedMlflow } from '../support/scripted-mlflow.ts';
import { startSidecar } from '../support/sidecar.ts';
import { GRACE_MS, modelFiles, reload, until } from './harness.ts';

const PRELOAD = fileURLToPath(new URL('../support/preload/hang-disk.mjs', import.meta.url));
const WARM = 'models:/warm-0/Production';
const MODELS = 20;

/** A sidecar with twenty cached models, and a disk that hangs while it is told to. */
async function start() {
  const dir = await mkdtemp(join(tmpdir(), 'sidecar-hang-'));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  const [flag, fifo] = [join(dir, 'flag'), join(dir, 'fifo')];
  await promisify(execFile)('mkfifo', [fifo]);
  const upstream = await ScriptedMlflow.start();
  onTestFinished(() => upstream.close());
  for (const n of Array(MODELS).keys()) {
    upstream.addVersion({ name: `warm-${n}`, stage: 'Production', files: modelFiles(`warm-${n}`) });
  }
  upstream.addVersion({ name: 'cold', stage: 'Production', files: modelFiles('cold') });
  const cacheDir = join(dir, 'cache');
  const sidecar = await startSidecar({
    ...upstream.env,
    SIDECAR_CACHE_DIR: cacheDir,
    // As src/main.ts has it, which comes after the preload.
    UV_THREADPOOL_SIZE: '64',
    NODE_OPTIONS: `--import=${PRELOAD}`,
    HANG_DISK_DIR: cacheDir,
    HANG_DISK_FLAG: flag,
    HANG_DISK_FIFO: fifo,
  });
  const hang = () => writeFile(flag, '');
  const goOn = async () => {
    await rm(flag, { force: true });
    // Whoever waits for a writer has one now; and one that comes a little later, too.
    const writer = await open(fifo, 'r+');
    await delay(500);
    await writer.close();
  };
  onTestFinished(async () => {
    await goOn();
    await sidecar.stop();
  });
  for (const n of Array(MODELS).keys()) await reload(sidecar.url, `models:/warm-${n}/Production`);
  return { upstream, sidecar, hang, goOn };
}

async function statusOf(url: string) {
  const startedAt = performance.now();
  const response = await fetch(url);
  return { status: response.status, text: await response.text(), ms: performance.now() - startedAt };
}

test('cached models are given at once while the disk hangs, and the probes say so', async () => {
  const { sidecar, hang, goOn } = await start();
  const medianOf = async (rounds: number) => {
    const times: number[] = [];
    for (let n = 0; n < rounds * MODELS; n++) {
      const { outcome, ms } = await reload(sidecar.url, `models:/warm-${n % MODELS}/Production`);
      expect(outcome).toMatchObject({ status: 'unchanged', version: '1' });
      times.push(ms);
    }
    return times.toSorted((a, b) => a - b)[times.length / 2] ?? 0;
  };
  const well = await medianOf(1);
  await hang();
  const first = await reload(sidecar.url, WARM);
  expect(first.outcome).toMatchObject({ status: 'unchanged', version: '1' });
  expect(first.ms).toBeLessThan(atMost(2 * GRACE_MS));
  const median = await medianOf(5);
  console.log(
    `disk hangs: first ${first.ms.toFixed(0)} ms, then median ${median.toFixed(1)} ms; ${well.toFixed(1)} ms before`,
  );
  // Less than what a look at a disk that hangs is waited for, on a machine that is busy, too.
  expect(median).toBeLessThan(IS_STRICT ? 20 : well + 100);
  expect((await statusOf(`${sidecar.url}/healthz`)).status).toBe(200);
  const ready = await until(5_000, async () => {
    const answer = await statusOf(`${sidecar.url}/readyz`);
    return answer.status === 503 ? answer : null;
  });
  expect(ready.text).toContain('does not answer');
  await until(5_000, async () => (sidecar.logs().includes('"event":"cache_unusable"') ? true : null));
  await goOn();
  await until(10_000, async () => ((await statusOf(`${sidecar.url}/readyz`)).status === 200 ? true : null));
  expect((await reload(sidecar.url, 'models:/cold/Production')).outcome.status).toBe('loaded');
});

test('an asynchronous reload is taken in, and ends, while the disk hangs', async () => {
  const { sidecar, hang } = await start();
  await hang();
  const startedAt = performance.now();
  const begun = await fetch(`${sidecar.url}/v1/reload?async=true&model_uri=${WARM}`, { method: 'POST' });
  expect(begun.status).toBe(202);
  expect(performance.now() - startedAt).toBeLessThan(atMost(1_000 + GRACE_MS));
  const { text } = await statusOf(`${sidecar.url}${begun.headers.get('location')}?wait_s=5`);
  expect(JSON.parse(text)).toMatchObject({ done: true, outcome: { status: 'unchanged', version: '1' } });
});

test('a download onto a disk that hangs is answered at its deadline, and SIGTERM ends the process within 5 s', async () => {
  const { sidecar, hang } = await start();
  await hang();
  const { outcome, ms } = await reload(sidecar.url, 'models:/cold/Production', { deadline_s: 1 });
  expect(outcome).toMatchObject({
    status: 'failed',
    refreshing: true,
    warning: { code: 'deadline_exceeded' },
  });
  expect(ms).toBeLessThan(atMost(1_000 + GRACE_MS));
  const startedAt = performance.now();
  await sidecar.stop();
  expect(performance.now() - startedAt).toBeLessThan(atMost(5_000));
});

test('threads are left for what is not on the disk that hangs', async () => {
  const { upstream, sidecar, hang } = await start();
  await hang();
  for (const n of Array(MODELS).keys()) {
    upstream.addVersion({ name: `warm-${n}`, stage: 'Production', files: modelFiles(`newer-${n}`) });
  }
  const answers = await Promise.all(
    Array.from({ length: MODELS }, (_, n) =>
      reload(sidecar.url, `models:/warm-${n}/Production`, { deadline_s: 4, refresh_wait_s: 4 }),
    ),
  );
  for (const { outcome, ms } of answers) {
    expect(outcome).toMatchObject({ status: 'stale', version: '1', wanted_version: '2' });
    expect(ms).toBeLessThan(atMost(4_000 + GRACE_MS));
  }
  // A log line is written by such a thread.
  const before = sidecar.logs().length;
  await statusOf(`${sidecar.url}/nowhere`);
  await until(3_000, async () => (sidecar.logs().length > before ? true : null));
});

test('threads are left where the disk hangs while many small files come', async () => {
  const { upstream, sidecar, hang } = await start();
  const files = Object.fromEntries(Array.from({ length: 500 }, (_, n) => [`f${n}`, `content ${n}`]));
  upstream.addVersion({ name: 'many', stage: 'Production', files: { ...modelFiles('many'), ...files } });
  const before = upstream.requests.length;
  const answer = reload(sidecar.url, 'models:/many/Production', { deadline_s: 2 });
  await until(2_000, async () => (upstream.requests.length > before + 80 ? true : null));
  await hang();
  expect((await answer).outcome).toMatchObject({ status: 'failed', refreshing: true });
  const logged = sidecar.logs().length;
  await statusOf(`${sidecar.url}/nowhere`);
  await until(3_000, async () => (sidecar.logs().length > logged ? true : null));
});
