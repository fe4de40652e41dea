import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { expect, onTestFinished, test } from 'vitest';
import { z } from 'zod';
import { freePort } from '../support/free-port.ts';
import { atMost } from '../support/limits.ts';
import { mlflowRest } from '../support/mlflow-rest.ts';
import { BYTECODE } from '../support/python-bytecode.ts';
import { type RunningSidecar, startSidecar } from '../support/sidecar.ts';
import { servers } from './servers.ts';

const NAME = 'served-model';
const URI = `models:/${NAME}@live`;
const TEXT = 'a late goal won the match';
const MOVES = 20;
/** Before these moves the sidecar is killed, and started again after them. */
const KILLED_AT = [7, 14];
const CLIENTS = 3;

const at = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url));

const PredictedSchema = z.object({ predictions: z.array(z.string()), run_id: z.string(), path: z.string() });
type Predicted = z.infer<typeof PredictedSchema>;

/** The example on MLflow's own Python, as uvicorn serves it; it also says how many models are alive. */
async function startService(env: Readonly<Record<string, string>>): Promise<string> {
  const port = await freePort();
  const args = ['-m', 'uvicorn', 'inference_probe:app', '--port', String(port)];
  const cwd = await mkdtemp(join(tmpdir(), 'inference-'));
  const child = spawn(at('.cache/venv/mlflow-3.17.2/bin/python'), [...args, '--log-level', 'warning'], {
    cwd,
    env: {
      PATH: process.env['PATH'] ?? '',
      PYTHONPATH: ['clients/python', 'examples/inference', 'test/support/python'].map(at).join(':'),
      ...BYTECODE,
      MLFLOW_DISABLE_TELEMETRY: 'true',
      ...env,
    },
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const closed = once(child, 'close');
  onTestFinished(async () => {
    child.kill('SIGKILL');
    await closed;
    await rm(cwd, { recursive: true, force: true });
  });
  const url = `http://127.0.0.1:${port}`;
  await until(
    60_000,
    async () =>
      await fetch(`${url}/healthz`).then(
        ({ ok }) => ok,
        () => false,
      ),
  );
  return url;
}

async function until(limitMs: number, look: () => Promise<boolean> | boolean): Promise<void> {
  const endAt = performance.now() + atMost(limitMs);
  while (!(await look())) {
    if (performance.now() > endAt) throw new Error(`It did not come about within ${limitMs} ms.`);
    await delay(20);
  }
}

function predict(url: string): Promise<Response> {
  const headers = { 'content-type': 'application/json' };
  return fetch(`${url}/predict`, { method: 'POST', headers, body: JSON.stringify({ inputs: [TEXT] }) });
}

test('the inference service answers every request from one version, while the alias moves and the sidecar is killed', async () => {
  const [mlflow] = servers.filter(server => server.version === '3.17.2');
  if (mlflow === undefined) throw new Error('The global setup started no MLflow 3.17.2.');
  const rest = mlflowRest(mlflow.url);
  const trained = ['topic-classification', 'sentiment-analysis'].map(name => {
    const found = mlflow.registered.find(one => one.name === name);
    if (found === undefined) throw new Error(`${name} is not registered.`);
    return found;
  });
  for (const one of trained) await rest.createVersion(NAME, one);
  const [topic = '', sentiment = ''] = trained.map(one => one.run_id);
  const fits = ({ run_id, predictions: [prediction = ''] }: Predicted) =>
    run_id === topic ? prediction === 'sport' : run_id === sentiment && /^(posi|nega)tive$/.test(prediction);

  const cacheDir = await mkdtemp(join(tmpdir(), 'inference-cache-'));
  const sidecarPort = String(await freePort());
  const startAgain = () =>
    startSidecar({
      MLFLOW_TRACKING_URI: mlflow.url,
      SIDECAR_PORT: sidecarPort,
      SIDECAR_CACHE_DIR: cacheDir,
    });
  let sidecar: RunningSidecar | null = null;
  onTestFinished(async () => {
    await sidecar?.stop();
    await rm(cacheDir, { recursive: true, force: true });
  });

  const url = await startService({
    MODEL_URI: URI,
    MODEL_INTERVAL_S: '0.1',
    SIDECAR_URL: `http://127.0.0.1:${sidecarPort}`,
    SIDECAR_CACHE_DIR: cacheDir,
  });
  const early = await predict(url);
  expect([early.status, early.headers.get('retry-after')]).toEqual([503, '5']);

  await rest.setAlias(NAME, 'live', '1');
  sidecar = await startAgain();
  await until(20_000, async () => (await predict(url)).ok);

  const answers: Predicted[] = [];
  const failures: string[] = [];
  const over = new AbortController();
  const clients = Array.from({ length: CLIENTS }, async () => {
    while (!over.signal.aborted) {
      try {
        const response = await predict(url);
        const text = await response.text();
        if (response.ok) answers.push(PredictedSchema.parse(JSON.parse(text)));
        else failures.push(`${response.status} ${text}`);
      } catch (error) {
        failures.push(String(error));
      }
    }
  });

  for (let move = 1; move <= MOVES; move += 1) {
    const isDown = KILLED_AT.includes(move);
    if (isDown) {
      process.kill(sidecar.pid, 'SIGKILL');
      await sidecar.exited;
    }
    const wanted = move % 2 === 0 ? topic : sentiment;
    await rest.setAlias(NAME, 'live', move % 2 === 0 ? '1' : '2');
    if (isDown) {
      // It serves what it has meanwhile.
      const before = answers.length;
      await until(5_000, () => answers.length > before + 10 * CLIENTS);
      expect(answers.at(-1)?.run_id).not.toBe(wanted);
      sidecar = await startAgain();
    }
    await until(10_000, () => answers.at(-1)?.run_id === wanted);
  }
  await until(20_000, () => answers.length + failures.length >= 1_000);
  over.abort();
  await Promise.all(clients);

  await until(5_000, async () => (await (await fetch(`${url}/alive`)).text()) === '1');
  expect(failures).toEqual([]);
  expect(answers.length).toBeGreaterThanOrEqual(1_000);
  expect(answers.filter(answer => !fits(answer))).toEqual([]);
  expect(answers.at(-1)?.run_id).toBe(topic);
  // What a path holds is what the answer was predicted by.
  const places = new Map(answers.map(({ path, run_id }) => [path, run_id]));
  expect(new Set(answers.map(({ path, run_id }) => `${path} ${run_id}`)).size).toBe(places.size);
  for (const [path, runId] of places) {
    expect(await readFile(join(path, 'MLmodel'), 'utf8')).toContain(`run_id: ${runId}\n`);
  }
});
