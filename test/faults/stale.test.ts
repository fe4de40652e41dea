import { setTimeout as delay } from 'node:timers/promises';
import { expect, onTestFinished, test } from 'vitest';
import { atMost } from '../support/limits.ts';
import { type RecordedRequest, ScriptedMlflow } from '../support/scripted-mlflow.ts';
import { type RunningSidecar, startSidecar } from '../support/sidecar.ts';
import { GRACE_MS, modelFiles, refusedReload, reload, wrongFiles } from './harness.ts';
import { dismantle, prepare, type Stage } from './matrix.ts';

const WARM = 'models:/warm/Production';
const COLD = 'models:/cold/Production';
/** One try for each request: what a fault is called shows at once. */
const ONE_TRY = { MLFLOW_HTTP_REQUEST_MAX_RETRIES: '0' };

/** A sidecar of this test alone that has loaded `warm`. */
async function stageOf(env: Readonly<Record<string, string>> = {}): Promise<Stage> {
  const stage = await prepare(env);
  onTestFinished(() => dismantle(stage));
  return stage;
}

/** A sidecar that has asked for nothing yet. */
async function blank(env: Readonly<Record<string, string>>): Promise<RunningSidecar> {
  const sidecar = await startSidecar({ ...ONE_TRY, ...env });
  onTestFinished(async () => void (await sidecar.stop()));
  return sidecar;
}

test('a deadline below refresh_wait_s counts', async () => {
  const { upstream, sidecar } = await stageOf();
  await upstream.setFault('registry', { kind: 'silent' });
  const { outcome, ms } = await reload(sidecar.url, WARM, { deadline_s: 0.3, refresh_wait_s: 30 });
  expect(outcome).toMatchObject({ status: 'stale', version: '1' });
  expect(ms).toBeLessThan(atMost(300 + GRACE_MS));
});

test('all tries used up end the wait before refresh_wait_s', async () => {
  const { upstream, sidecar } = await stageOf(ONE_TRY);
  await upstream.setFault('registry', { kind: 'status', status: 503 });
  const { outcome, ms } = await reload(sidecar.url, WARM, { refresh_wait_s: 30 });
  expect(outcome).toMatchObject({ status: 'stale', version: '1', warning: { code: 'mlflow_error' } });
  expect(ms).toBeLessThan(atMost(GRACE_MS));
});

test('a version that is named but not located is wanted_version, within the deadline', async () => {
  const { upstream, sidecar } = await stageOf();
  upstream.addVersion({ name: 'warm', stage: 'Production', files: modelFiles('warm-2') });
  const when = (request: RecordedRequest) => request.route === 'model-versions/get-download-uri';
  await upstream.setFault('registry', { kind: 'silent' }, { when });
  const { outcome, ms } = await reload(sidecar.url, WARM, { deadline_s: 3, refresh_wait_s: 2 });
  expect(outcome).toMatchObject({ status: 'stale', version: '1', wanted_version: '2', refreshing: true });
  expect(ms).toBeLessThan(atMost(3_000 + GRACE_MS));
});

test('artifacts that are refused to the own credential are stale with access_denied', async () => {
  const { upstream, sidecar } = await stageOf();
  upstream.addVersion({ name: 'warm', stage: 'Production', files: modelFiles('warm-2') });
  await upstream.setFault('file', { kind: 'status', status: 403 });
  const { outcome } = await reload(sidecar.url, WARM);
  expect(outcome).toMatchObject({ status: 'stale', version: '1', wanted_version: '2' });
  expect(outcome.warning?.code).toBe('access_denied');
});

test('a fault that passes between two tries is not seen by the caller', async () => {
  const { upstream, sidecar } = await stageOf();
  await upstream.setFault('registry', { kind: 'status', status: 503 }, { first: 1 });
  const { outcome, ms } = await reload(sidecar.url, COLD);
  expect(outcome).toMatchObject({ status: 'loaded', version: '1', attempts: 2, warning: null });
  expect(ms).toBeGreaterThan(2_000);
  expect(ms).toBeLessThan(atMost(4_000 + GRACE_MS));
});

test('Retry-After is charged to the deadline', async () => {
  const { upstream, sidecar } = await stageOf();
  const headers = { 'retry-after': '8' };
  await upstream.setFault('registry', { kind: 'status', status: 429, headers }, { first: 1 });
  const warm = await reload(sidecar.url, WARM, { refresh_wait_s: 0.5 });
  expect(warm.outcome.status).toBe('stale');
  expect(warm.ms).toBeLessThan(atMost(500 + GRACE_MS));
  await upstream.setFault('registry', { kind: 'status', status: 429, headers });
  const cold = await reload(sidecar.url, COLD, { deadline_s: 1 });
  expect(cold.outcome.warning?.code).toBe('deadline_exceeded');
  expect(cold.ms).toBeLessThan(atMost(1_000 + GRACE_MS));
});

test('what was confirmed longer ago than max_stale_s is not given', async () => {
  const { upstream, sidecar } = await stageOf(ONE_TRY);
  await upstream.setFault('registry', { kind: 'refused' });
  await delay(700);
  const body = { model_uri: WARM, max_stale_s: 0.5, deadline_s: 2 };
  const { outcome } = await reload(sidecar.url, WARM, body);
  expect(outcome).toMatchObject({ status: 'failed', path: null, version: null, previous_version: '1' });
  expect(outcome).toMatchObject({ refreshing: true, warning: { code: 'too_stale' } });
  expect(outcome.warning?.message).toContain('connection refused');
  const refused = await refusedReload(sidecar.url, { body: { ...body, on_failure: 'fail' } });
  expect(refused.http).toBe(503);
  expect(refused.problem).toMatchObject({ code: 'too_stale', status: 'failed' });
  expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
  expect((await reload(sidecar.url, WARM)).outcome).toMatchObject({ status: 'stale', version: '1' });
});

test("the caller's max_stale_s wins over the configured one", async () => {
  const { upstream, sidecar } = await stageOf({ ...ONE_TRY, SIDECAR_MAX_STALE_S: '0' });
  await upstream.setFault('registry', { kind: 'refused' });
  await delay(50);
  const { outcome } = await reload(sidecar.url, WARM, { deadline_s: 5 });
  expect(outcome.warning?.code).toBe('too_stale');
  const kept = await reload(sidecar.url, WARM, { max_stale_s: 60 });
  expect(kept.outcome).toMatchObject({ status: 'stale', version: '1' });
  expect(kept.outcome.age_s).toBeGreaterThan(0);
});

const DUE = [
  ['mlflow_unreachable', 503, { kind: 'reset' }],
  ['mlflow_error', 502, { kind: 'html' }],
  ['mlflow_timeout', 504, { kind: 'silent' }],
  ['access_denied', 502, { kind: 'status', status: 403 }],
] as const;
const ONE_TRY_OF_2_S = { ...ONE_TRY, MLFLOW_HTTP_REQUEST_TIMEOUT: '2' };

test.each(DUE)('on_failure fail, where nobody ever answered: %s is HTTP %i', async (code, status, fault) => {
  const upstream = await ScriptedMlflow.start();
  onTestFinished(() => upstream.close());
  await upstream.setFault('registry', fault);
  const sidecar = await blank({ ...upstream.env, ...ONE_TRY_OF_2_S });
  const { http, problem, headers } = await refusedReload(sidecar.url, {
    body: { model_uri: COLD, on_failure: 'fail' },
  });
  expect(http).toBe(status);
  expect(problem).toMatchObject({ code, status: 'failed', name: 'cold', path: null, model_uri: COLD });
  expect(headers.get('retry-after') !== null).toBe(status === 503);
});

test.each(DUE)(
  'on_failure fail, where MLflow answered before: %s is waited out unless it is definite',
  async (code, _, fault) => {
    const { upstream, sidecar } = await stageOf(ONE_TRY_OF_2_S);
    await upstream.setFault('registry', fault);
    const { http, problem } = await refusedReload(sidecar.url, {
      body: { model_uri: COLD, on_failure: 'fail', deadline_s: 4 },
    });
    const isDefinite = code === 'access_denied';
    expect(http).toBe(isDefinite ? 502 : 504);
    expect(problem).toMatchObject({
      code: isDefinite ? code : 'deadline_exceeded',
      refreshing: !isDefinite,
      status: 'failed',
      path: null,
    });
    if (!isDefinite) expect(problem).toMatchObject({ detail: expect.stringContaining('Last failure') });
  },
);

test('on_failure fail at the deadline is 504, and with something cached 200', async () => {
  const { upstream, sidecar } = await stageOf();
  await upstream.setFault('registry', { kind: 'silent' });
  const late = await refusedReload(sidecar.url, {
    body: { model_uri: COLD, on_failure: 'fail', deadline_s: 0.5 },
  });
  expect(late.http).toBe(504);
  expect(late.problem).toMatchObject({ code: 'deadline_exceeded', refreshing: true });
  expect(late.ms).toBeLessThan(atMost(500 + GRACE_MS));
  const { outcome } = await reload(sidecar.url, WARM, { on_failure: 'fail', refresh_wait_s: 0.3 });
  expect(outcome.status).toBe('stale');
});

test('a host name that does not resolve is mlflow_unreachable', async () => {
  const lost = await blank({ MLFLOW_TRACKING_URI: 'http://no-such-host.invalid:5000' });
  const { outcome, ms } = await reload(lost.url, COLD, { deadline_s: 20 });
  expect(outcome).toMatchObject({ status: 'failed', warning: { code: 'mlflow_unreachable' } });
  expect(ms).toBeLessThan(atMost(5_000 + GRACE_MS));
});

test('TLS to a server that speaks plain HTTP is mlflow_unreachable', async () => {
  const { upstream } = await stageOf();
  const lost = await blank({ MLFLOW_TRACKING_URI: upstream.url.replace('http:', 'https:') });
  const { outcome } = await reload(lost.url, COLD, { deadline_s: 20 });
  expect(outcome).toMatchObject({ status: 'failed', warning: { code: 'mlflow_unreachable' } });
});

test('a restart keeps what was published and when it was confirmed', async () => {
  const { upstream, sidecar } = await stageOf(ONE_TRY);
  await upstream.setFault('registry', { kind: 'refused' });
  const before = (await reload(sidecar.url, WARM)).outcome;
  const second = await blank({ ...upstream.env, SIDECAR_CACHE_DIR: sidecar.cacheDir });
  const { outcome, ms } = await reload(second.url, WARM);
  expect(outcome).toMatchObject({ status: 'stale', version: '1', path: before.path });
  expect(outcome.age_s).toBeGreaterThanOrEqual(before.age_s ?? 0);
  expect(ms).toBeLessThan(atMost(GRACE_MS));
  expect(await wrongFiles(outcome.path, modelFiles('warm-1'))).toEqual([]);
});
