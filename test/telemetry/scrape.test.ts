import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { startApp } from '../../src/app.ts';
import { EventBus } from '../../src/domain/events.ts';
import { options } from '../config/support.ts';
import { parseExposition, sampleOf } from '../support/exposition.ts';
import { reload } from '../support/reload.ts';
import { type RecordedRequest, ScriptedMlflow } from '../support/scripted-mlflow.ts';

const URI = 'models:/churn "v|1"/Production';
const FILES = { MLmodel: 'flavors: {}\n', 'data/weights.bin': Buffer.alloc(50_000, 'w') };
const BYTES = FILES.MLmodel.length + 50_000;
const QUESTION = 'registered-models/get-latest-versions';
const TOKEN = 's3cret';

/** The whole sidecar in this process, before a scripted MLflow with one model. */
async function stage(env: Readonly<Record<string, string>> = {}) {
  const upstream = await ScriptedMlflow.start();
  upstream.addVersion({ name: 'churn "v|1"', stage: 'Production', aliases: ['champion'], files: FILES });
  const cacheDir = await mkdtemp(join(tmpdir(), 'sidecar-metrics-'));
  const one = { SIDECAR_PORT: '0', SIDECAR_CACHE_DIR: cacheDir, MLFLOW_HTTP_REQUEST_MAX_RETRIES: '0' };
  const app = await startApp(options({ ...one, ...upstream.env, ...env }), new EventBus());
  onTestFinished(async () => {
    await app.stop(AbortSignal.timeout(2_000));
    await upstream.close();
    await rm(cacheDir, { recursive: true, force: true });
  });
  const scrape = async () => {
    const response = await fetch(`${app.url}/metrics`, { headers: { authorization: `Bearer ${TOKEN}` } });
    return parseExposition(await response.text());
  };
  return { upstream, app, scrape };
}

type Families = Awaited<ReturnType<Awaited<ReturnType<typeof stage>>['scrape']>>;

function reloads(families: Families): readonly (readonly (string | number)[])[] {
  const series = families.get('mlflow_sidecar_reloads_total')?.series ?? [];
  const rows = series
    .filter(each => each.value > 0)
    .map(({ labels, value }) => [...Object.values(labels), value]);
  return rows.toSorted((a, b) => String(a).localeCompare(String(b)));
}

test('after some reloads the numbers are exactly right, and scraping asks MLflow nothing', async () => {
  const { upstream, app, scrape } = await stage({ SIDECAR_MODELS: 'models:/absent/Staging' });
  expect((await reload(app.url, URI)).outcome.status).toBe('loaded');
  for (let i = 0; i < 3; i++) expect((await reload(app.url, URI)).outcome.status).toBe('unchanged');
  expect((await reload(app.url, 'models:/churn "v|1"@champion')).outcome.status).toBe('loaded');
  for (const name of ['absent', 'bad-1', 'bad-2'])
    expect((await reload(app.url, `models:/${name}/Staging`)).outcome.status).toBe('missing');
  await upstream.setFault('registry', { kind: 'status', status: 503 });
  expect((await reload(app.url, URI)).outcome.status).toBe('stale');
  expect((await fetch(`${app.url}/nowhere`)).status).toBe(404);
  const asked = () => upstream.requests.filter(({ url }) => url !== '/health').length;
  const before = asked();

  const found = await scrape();
  const value = (name: string, labels = {}) => sampleOf(found, `mlflow_sidecar_${name}`, labels);
  expect(reloads(found)).toEqual([
    ['absent', 'missing', 'model_not_found', 1],
    ['churn "v|1"', 'loaded', '', 2],
    ['churn "v|1"', 'stale', 'mlflow_error', 1],
    ['churn "v|1"', 'unchanged', '', 3],
    ['other', 'missing', 'model_not_found', 2],
  ]);
  expect(value('reload_duration_seconds_count', { status: 'missing' })).toBe(3);
  expect(value('stale_age_seconds_count')).toBe(1);
  expect([value('fetched_files_total'), value('fetched_bytes_total')]).toEqual([2, BYTES]);
  expect(value('runs_total', { status: 'loaded', code: '' })).toBe(2);
  expect(value('runs_total', { status: 'failed', code: 'model_not_found' })).toBe(3);
  const phases = ['resolve', 'list', 'fetch', 'publish'];
  const counts = phases.map(phase => value('run_phase_duration_seconds_count', { phase }));
  expect(counts).toEqual([9, 1, 1, 1]);
  expect(value('upstream_tries_failed_total', { code: 'mlflow_error' })).toBe(1);
  expect(value('upstream_retries_total')).toBe(0);
  expect(value('requests_refused_total', { code: 'not_found' })).toBe(1);
  expect([value('calls_waiting'), value('runs_in_flight'), value('runs_joined_total')]).toEqual([0, 0, 0]);
  expect([value('cache_usable'), value('cache_refs'), value('cache_bytes')]).toEqual([1, 2, BYTES]);
  const ref = { model: 'churn "v|1"', ref: 'Production' };
  expect(value('model_info', { ...ref, version: '1' })).toBe(1);
  expect(value('model_published', { model: 'absent', ref: 'Staging' })).toBe(0);
  const left = value('model_stale_seconds_left', ref) ?? 0;
  expect((value('model_age_seconds', ref) ?? 0) + left).toBeCloseTo(604_800);
  expect(asked()).toBe(before);
});

test('calls that wait, the run that they share and who joined it are seen while it goes on', async () => {
  const { upstream, app, scrape } = await stage();
  const when = ({ route }: RecordedRequest) => route === QUESTION;
  await upstream.setFault('registry', { kind: 'delay', ms: 2_000 }, { first: 1, when });
  const first = reload(app.url, URI);
  await expect.poll(() => upstream.counts('route').get(QUESTION)).toBe(1);
  const later = Array.from({ length: 4 }, () => reload(app.url, URI));
  const names = ['calls_waiting', 'runs_in_flight', 'runs_joined_total'];
  const look = async () => {
    const found = await scrape();
    return names.map(name => sampleOf(found, `mlflow_sidecar_${name}`));
  };
  await expect.poll(look).toEqual([5, 1, 3]);
  await Promise.all([first, ...later]);
  expect(await look()).toEqual([0, 0, 3]);
});

test('one download that two URIs share counts once', async () => {
  const { upstream, app, scrape } = await stage();
  await upstream.setFault('file', { kind: 'delay', ms: 500 });
  await Promise.all([reload(app.url, URI), reload(app.url, 'models:/churn "v|1"@champion')]);
  const found = await scrape();
  expect(sampleOf(found, 'mlflow_sidecar_fetched_bytes_total')).toBe(BYTES);
  expect(sampleOf(found, 'mlflow_sidecar_runs_total', { status: 'loaded', code: '' })).toBe(2);
});

test('names that do not exist and paths that nobody serves add no line', async () => {
  const { app } = await stage();
  const text = async () => (await fetch(`${app.url}/metrics`)).text();
  await reload(app.url, 'models:/bad/Production');
  await fetch(`${app.url}/nowhere`);
  const before = (await text()).split('\n').length;
  for (let i = 0; i < 50; i++) await reload(app.url, `models:/bad-${i}/Production`);
  for (let i = 0; i < 50; i++) await fetch(`${app.url}/nowhere-${i}`);
  expect((await text()).split('\n').length).toBe(before);
});

test('a sidecar with a token shows its metrics to a bearer only', async () => {
  const { app, scrape } = await stage({ SIDECAR_TOKEN: TOKEN });
  expect((await fetch(`${app.url}/metrics`)).status).toBe(401);
  expect(sampleOf(await scrape(), 'mlflow_sidecar_requests_refused_total', { code: 'unauthorized' })).toBe(1);
});

test('a breaker that opens shows its state, and that it changed', async () => {
  const { upstream, app, scrape } = await stage({ SIDECAR_BREAKER_FAILURES: '1' });
  await upstream.setFault('registry', { kind: 'status', status: 503 });
  await reload(app.url, URI);
  const found = await scrape();
  const breaker = { name: 'registry', host: new URL(upstream.url).host };
  const shown = (state: string) => sampleOf(found, 'mlflow_sidecar_breaker_state', { ...breaker, state });
  expect([shown('closed'), shown('open'), shown('half-open')]).toEqual([0, 1, 0]);
  const opened = sampleOf(found, 'mlflow_sidecar_breaker_transitions_total', { ...breaker, to: 'open' });
  expect(opened).toBe(1);
});
