import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, onTestFinished, test, vi } from 'vitest';
import { z } from 'zod';
import { directory, run, start } from '../cli/support.ts';
import { parseExposition } from '../support/exposition.ts';
import { freePort } from '../support/free-port.ts';
import { atMost, SOON } from '../support/limits.ts';
import { ScriptedMlflow } from '../support/scripted-mlflow.ts';
import { type RunningSidecar, startSidecar } from '../support/sidecar.ts';

const StatusSchema = z.object({
  prewarm: z.array(
    z.object({
      model_uri: z.string(),
      schedule: z.string().nullable(),
      timezone: z.string().nullable(),
      next_run_at: z.number().nullable(),
      last_run: z
        .object({
          at: z.number(),
          status: z.string(),
          version: z.string().nullable(),
          code: z.string().nullable(),
        })
        .nullable(),
      skipped: z.number(),
    }),
  ),
});

/** For two hundred runs, which a busy machine takes long for. */
const LATE = { timeout: 100_000, interval: 100 };

async function scripted(): Promise<ScriptedMlflow> {
  const mlflow = await ScriptedMlflow.start();
  onTestFinished(() => mlflow.close());
  return mlflow;
}

/** The URIs of so many models. */
function champions(mlflow: ScriptedMlflow, count: number): readonly string[] {
  return Array.from({ length: count }, (_, i) => {
    mlflow.addVersion({ name: `m${i}`, aliases: ['champion'], files: { MLmodel: `of ${i}` } });
    return `models:/m${i}@champion`;
  });
}

async function sidecarWith(env: Readonly<Record<string, string>>): Promise<RunningSidecar> {
  const sidecar = await startSidecar(env);
  onTestFinished(async () => void (await sidecar.stop()));
  return sidecar;
}

/** Pre-warming runs so far that ended like this. */
async function ended(sidecar: RunningSidecar, status: string): Promise<number> {
  const families = parseExposition(await (await fetch(`${sidecar.url}/metrics`)).text());
  const series = families.get('mlflow_sidecar_prewarm_runs_total')?.series ?? [];
  return series
    .filter(({ labels }) => labels['status'] === status)
    .reduce((sum, { value }) => sum + value, 0);
}

async function prewarmOf(sidecar: RunningSidecar) {
  const answer = await fetch(`${sidecar.url}/v1/status`);
  return StatusSchema.parse(await answer.json()).prewarm;
}

test('two hundred models of which none has changed cost one question each, and no file', async () => {
  const mlflow = await scripted();
  const uris = champions(mlflow, 200);
  const sidecar = await sidecarWith({
    ...mlflow.env,
    SIDECAR_MODELS: uris.join(','),
    SIDECAR_PREWARM: '*/4 * * * * *',
    SIDECAR_WARMUP_S: '20',
  });
  const isReady = async () => (await fetch(`${sidecar.url}/readyz`)).status;
  await vi.waitFor(async () => expect(await isReady()).toBe(200), LATE);
  const runs = async () => await ended(sidecar, 'unchanged');
  await vi.waitFor(async () => expect(await runs()).toBeGreaterThanOrEqual(200), LATE);
  mlflow.requests.length = 0;
  const asked = () => mlflow.counts('route').get('registered-models/alias') ?? 0;
  // Runs go on meanwhile, at most eight of them at once.
  const look = async () => ({ least: asked(), over: await runs(), most: asked() });
  const before = await look();
  await vi.waitFor(async () => expect((await runs()) - before.over).toBeGreaterThanOrEqual(200), LATE);
  const after = await look();
  const over = after.over - before.over;
  expect(over).toBeGreaterThanOrEqual(after.least - before.most - 8);
  expect(over).toBeLessThanOrEqual(after.most - before.least + 8);
  const routes = [...mlflow.counts('route').keys()];
  expect(routes.filter(route => !route.endsWith('health'))).toEqual(['registered-models/alias']);
});

test('a slow MLflow is waited for: it is asked eight questions at once, and its answers count', async () => {
  const mlflow = await scripted();
  const uris = champions(mlflow, 24);
  const sidecar = await sidecarWith({
    ...mlflow.env,
    SIDECAR_MODELS: uris.join(','),
    SIDECAR_PREWARM: '*/6 * * * * *',
    SIDECAR_REFRESH_WAIT_S: '0.2',
    SIDECAR_WARMUP_S: '20',
  });
  await vi.waitFor(async () => expect((await fetch(`${sidecar.url}/readyz`)).status).toBe(200), SOON);
  await mlflow.setFault('registry', { kind: 'delay', ms: 1_000 });
  // A caller that does not wait so long: the registry is known to be slow from then on.
  await fetch(`${sidecar.url}/v1/reload?model_uri=models:/m0@champion`, { method: 'POST' });
  const before = await ended(sidecar, 'unchanged');
  mlflow.requests.length = 0;
  await vi.waitFor(
    async () => expect((await ended(sidecar, 'unchanged')) - before).toBeGreaterThanOrEqual(24),
    {
      ...SOON,
      interval: 100,
    },
  );
  const asked = mlflow.requests
    .filter(({ route }) => route === 'registered-models/alias')
    .map(({ at }) => at);
  // Each is answered a second after it came.
  const atOnce = asked.map(at => asked.filter(other => other <= at && other > at - 950).length);
  expect(Math.max(...atOnce)).toBeLessThanOrEqual(8);
  expect(await ended(sidecar, 'stale')).toBe(0);
});

test('what is promoted comes by the schedule alone, and status, log and metrics tell of it', async () => {
  const mlflow = await scripted();
  mlflow.addVersion({ name: 'topic', stage: 'Production', files: { MLmodel: 'one' } });
  mlflow.addVersion({ name: 'other', stage: 'Production', files: { MLmodel: 'other' } });
  const config = join(directory(), 'sidecar.yaml');
  await writeFile(
    config,
    'models:\n  - uri: models:/topic/Production\n    prewarm: "* * * * * *"\n  - models:/other/Production\nprewarm: "0 6 * * *"\nprewarm_timezone: Europe/Berlin\n',
  );
  const sidecar = await sidecarWith({ ...mlflow.env, SIDECAR_CONFIG: config });
  const version = async () => (await prewarmOf(sidecar))[0]?.last_run?.version;
  await vi.waitFor(async () => expect(await version()).toBe('1'), SOON);
  mlflow.addVersion({ name: 'topic', stage: 'Production', files: { MLmodel: 'two' } });
  await vi.waitFor(async () => expect(await version()).toBe('2'), SOON);
  const [topic, other] = await prewarmOf(sidecar);
  expect(topic).toMatchObject({ schedule: '* * * * * *', timezone: 'Europe/Berlin', skipped: 0 });
  expect(other).toMatchObject({ schedule: '0 6 * * *', last_run: null });
  const hour = new Intl.DateTimeFormat('en', { timeZone: 'Europe/Berlin', hour: 'numeric', hour12: false });
  expect(hour.format((other?.next_run_at ?? 0) * 1_000)).toBe('06');
  expect(sidecar.logs()).toMatch(
    /"event":"prewarm_finished".*By schedule: Loaded models:\/topic\/Production \(version 2\)/,
  );
  expect(sidecar.logs()).not.toMatch(/"event":"reload_finished"/);
  expect(await ended(sidecar, 'loaded')).toBe(2);
  const families = parseExposition(await (await fetch(`${sidecar.url}/metrics`)).text());
  expect(families.get('mlflow_sidecar_reloads_total')?.series.filter(({ value }) => value > 0)).toEqual([]);
  expect(families.get('mlflow_sidecar_prewarm_next_run_timestamp_seconds')?.series).toHaveLength(2);
  expect(families.get('mlflow_sidecar_prewarm_last_run_timestamp_seconds')?.series).toHaveLength(1);
  const { stdout } = await run(['status', '--url', sidecar.url], {});
  expect(stdout).toMatch(
    /Pre-warmed:\n {2}models:\/topic\/Production: (loaded|unchanged) \d s ago; next in \d s\n {2}models:\/other\/Production: not yet; next in/,
  );
});

test('a probe finds the port in the file, and needs no token', async () => {
  const port = await freePort();
  const config = join(directory(), 'sidecar.yaml');
  await writeFile(config, `port: ${port}\n`);
  const env = { MLFLOW_TRACKING_URI: 'http://127.0.0.1:9', SIDECAR_CONFIG: config };
  const child = start(['serve'], { ...env, SIDECAR_CACHE_DIR: directory() });
  await child.stdoutWith(/"url":"/);
  const { code, stdout } = await run(['status', '--live'], { ...env, SIDECAR_TOKEN_FILE: '/nowhere' });
  expect({ code, stdout }).toEqual({ code: 0, stdout: `http://127.0.0.1:${port}/healthz is well\n` });
  child.child.kill('SIGTERM');
  await child.ended;
});

test('readiness waits for the warm-up, for an MLflow that starts later, and not for ever', async () => {
  const mlflow = await scripted();
  mlflow.addVersion({ name: 'topic', stage: 'Production', files: { MLmodel: 'one' } });
  await mlflow.setFault('registry', { kind: 'status', status: 503 });
  const env = {
    ...mlflow.env,
    SIDECAR_MODELS: 'models:/topic/Production',
    SIDECAR_WARMUP_S: '30',
    SIDECAR_REFRESH_WAIT_S: '0',
  };
  const sidecar = await sidecarWith(env);
  const before = await fetch(`${sidecar.url}/readyz`);
  expect(before.status).toBe(503);
  expect(await before.json()).toMatchObject({
    detail: 'The warm-up is not over: of 1 models 1 are not loaded yet: models:/topic/Production.',
  });
  const probes = await Promise.all(
    ['--live', '--ready'].map(flag => run(['status', flag, '--url', sidecar.url], {})),
  );
  expect(probes.map(({ code }) => code)).toEqual([0, 1]);
  expect(probes[1]?.stdout).toContain('The warm-up is not over');
  await mlflow.clearFaults();
  const ready = async () => (await run(['status', '--ready', '--url', sidecar.url], {})).code;
  await vi.waitFor(async () => expect(await ready()).toBe(0), { ...SOON, interval: 300 });
  expect((await prewarmOf(sidecar))[0]).toMatchObject({
    schedule: null,
    next_run_at: null,
    last_run: { status: 'loaded' },
  });
});

test('a warm-up whose time is over lets callers in, and the reason is in the status', async () => {
  const env = {
    MLFLOW_TRACKING_URI: `http://127.0.0.1:${await freePort()}`,
    SIDECAR_MODELS: 'models:/topic/1',
  };
  const sidecar = await sidecarWith({ ...env, SIDECAR_WARMUP_S: '1' });
  expect((await fetch(`${sidecar.url}/readyz`)).status).toBe(503);
  await vi.waitFor(async () => expect((await fetch(`${sidecar.url}/readyz`)).status).toBe(200), {
    timeout: atMost(3_000),
  });
});

test('metrics and health have an address of their own, without the token and without anything else', async () => {
  const port = await freePort();
  const sidecar = await sidecarWith({
    MLFLOW_TRACKING_URI: 'http://127.0.0.1:9',
    SIDECAR_TOKEN: 's3cret',
    SIDECAR_METRICS_ADDR: `127.0.0.1:${port}`,
  });
  const statusOf = async (path: string, base = `http://127.0.0.1:${port}`) =>
    (await fetch(base + path, { headers: { host: 'prometheus.example' } })).status;
  const paths = [
    '/metrics',
    '/healthz',
    '/readyz',
    '/v1/status',
    '/api/2.0/mlflow/experiments/search',
    '/version',
    '/openapi.json',
  ];
  expect(await Promise.all(paths.map(path => statusOf(path)))).toEqual([200, 200, 200, 404, 404, 404, 404]);
  expect(await statusOf('/metrics', sidecar.url)).toBe(401);
  expect(await sidecar.stop()).toBe(0);
});

test('an address for metrics that is taken is told with the option that names it', async () => {
  const mlflow = await scripted();
  const port = new URL(mlflow.url).port;
  const { code, stderr } = await run(['serve', '--metrics-addr', `127.0.0.1:${port}`], {
    MLFLOW_TRACKING_URI: 'http://127.0.0.1:9',
    SIDECAR_PORT: '0',
    SIDECAR_CACHE_DIR: directory(),
  });
  expect(code).toBe(1);
  expect(stderr).toContain(`cannot listen on 127.0.0.1, port ${port}: something else listens there`);
  expect(stderr).toContain('choose another port with SIDECAR_METRICS_ADDR or --metrics-addr.');
});
