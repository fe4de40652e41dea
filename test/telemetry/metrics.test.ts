import { setTimeout as delay } from 'node:timers/promises';
import { expect, onTestFinished, test } from 'vitest';
import { SidecarError } from '../../src/domain/errors.ts';
import { EventBus, type SidecarEvent } from '../../src/domain/events.ts';
import type { Outcome } from '../../src/domain/outcome.ts';
import type { ModelSummary, RefSummary } from '../../src/reload/api.ts';
import type { MetricSources } from '../../src/telemetry/metric-sources.ts';
import { createMetrics } from '../../src/telemetry/metrics.ts';
import { uris } from '../http/support.ts';
import { parseExposition, sampleOf } from '../support/exposition.ts';
import { outcome } from '../support/outcome.ts';
import { IDLE } from './support.ts';

const OWN = { requestId: 'r', airflow: {}, authorization: null };
const ORIGIN = { runId: 'run-1', modelUri: 'models:/churn/Production', caller: OWN };
const REF: RefSummary = {
  model_uri: 'models:/churn/Production',
  ref: 'Production',
  version: '2',
  resolved_version: '2',
  path: '/cache/v1/snapshots/s1',
  ref_path: null,
  digest: null,
  files: 7,
  bytes: 100,
  confirmed_at: 1_731_358_600,
  age_s: 5,
  last_outcome: null,
};

function metrics(sources: Partial<MetricSources> = {}) {
  const bus = new EventBus();
  const { models = IDLE.models } = sources;
  const model: MetricSources['model'] = name => [...models()].find(known => known.name === name) ?? null;
  const made = createMetrics(bus, { ...IDLE, model, ...sources });
  onTestFinished(made.close);
  return {
    text: async () => (await made.scrape()).text,
    families: async () => parseExposition((await made.scrape()).text),
    emit: (...events: readonly SidecarEvent[]) => {
      for (const event of events) bus.emit(event);
    },
  };
}

function reloaded(change: Partial<Outcome>, authorization: string | null = null): SidecarEvent {
  const caller = { ...OWN, authorization };
  return { type: 'reload_finished', caller, outcome: outcome(change), runId: 'run-1', phases: {} };
}

function missing(name: string): SidecarEvent {
  const warning = { code: 'model_not_found', message: 'no such model', hint: null } as const;
  return reloaded({ status: 'missing', name, version: null, path: null, age_s: null, warning });
}

const lines = (text: string) => text.split('\n').length;

test('reloads are counted by model, status and code, and their durations by status', async () => {
  const { emit, families } = metrics();
  const warning = { code: 'mlflow_timeout', message: 'too slow', hint: null } as const;
  emit(
    reloaded({ name: 'churn', status: 'loaded', duration_s: 0.3 }),
    reloaded({ name: 'churn', status: 'unchanged', duration_s: 0.02 }),
    reloaded({ name: 'churn', status: 'unchanged', duration_s: 0.03 }),
    reloaded({ name: 'churn', status: 'stale', warning, age_s: 4_000, duration_s: 2 }),
  );
  const found = await families();
  const total = (labels: Record<string, string>) => sampleOf(found, 'mlflow_sidecar_reloads_total', labels);
  expect(total({ model: 'churn', status: 'loaded', code: '' })).toBe(1);
  expect(total({ model: 'churn', status: 'unchanged', code: '' })).toBe(2);
  expect(total({ model: 'churn', status: 'stale', code: 'mlflow_timeout' })).toBe(1);
  const duration = (part: string, labels: Record<string, string>) =>
    sampleOf(found, `mlflow_sidecar_reload_duration_seconds_${part}`, labels);
  expect(duration('count', { status: 'unchanged' })).toBe(2);
  expect(duration('sum', { status: 'unchanged' })).toBe(0.05);
  expect(duration('bucket', { status: 'unchanged', le: '0.025' })).toBe(1);
  expect(duration('count', { status: 'failed' })).toBe(0);
  const age = (labels: Record<string, string>) =>
    sampleOf(found, 'mlflow_sidecar_stale_age_seconds_bucket', labels);
  expect([age({ le: '3600' }), age({ le: '21600' }), age({ le: '+Inf' })]).toEqual([0, 1, 1]);
});

test('runs count what they fetched and how long each phase took, also where they fail', async () => {
  const { emit, families } = metrics();
  const run = { origin: ORIGIN, version: '2' };
  const fetched = { files: 7, bytes: 48_318 };
  emit(
    {
      type: 'run_finished',
      status: 'loaded',
      ...run,
      phases: { resolve: 20, list: 30, fetch: 400, publish: 10 },
      fetched,
    },
    { type: 'run_finished', status: 'unchanged', ...run, phases: { resolve: 40 }, fetched: null },
    {
      type: 'run_failed',
      ...run,
      phases: { resolve: 60 },
      fetched: null,
      error: new SidecarError('mlflow_timeout', 'too slow'),
    },
    { type: 'run_failed', ...run, phases: {}, fetched: null, error: new TypeError('x is undefined') },
  );
  const found = await families();
  const value = (name: string, labels = {}) => sampleOf(found, `mlflow_sidecar_${name}`, labels);
  expect(value('run_phase_duration_seconds_count', { phase: 'resolve' })).toBe(3);
  expect(value('run_phase_duration_seconds_sum', { phase: 'resolve' })).toBeCloseTo(0.12);
  expect(value('run_phase_duration_seconds_count', { phase: 'publish' })).toBe(1);
  expect(value('runs_total', { status: 'loaded', code: '' })).toBe(1);
  expect(value('runs_total', { status: 'failed', code: 'mlflow_timeout' })).toBe(1);
  expect(value('runs_total', { status: 'failed', code: 'internal' })).toBe(1);
  expect(value('fetched_files_total')).toBe(7);
  expect(value('fetched_bytes_total')).toBe(48_318);
});

test('tries that failed, those of them that were repeated, and refused requests are counted by code', async () => {
  const { emit, families } = metrics();
  const error = new SidecarError('mlflow_unreachable', 'refused');
  const failed = { type: 'try_failed', what: 'the version', attempt: 1, origin: null, error } as const;
  emit(
    { ...failed, retryInMs: 2_000 },
    { ...failed, retryInMs: null },
    {
      type: 'request_refused',
      caller: OWN,
      method: 'GET',
      path: '/',
      error: new SidecarError('unauthorized', 'no token'),
    },
    { type: 'requests_shed', count: 41, error: new SidecarError('overloaded', 'too busy') },
  );
  const found = await families();
  const value = (name: string, labels = {}) => sampleOf(found, `mlflow_sidecar_${name}`, labels);
  expect(value('upstream_tries_failed_total', { code: 'mlflow_unreachable' })).toBe(2);
  expect(value('upstream_retries_total')).toBe(1);
  expect(value('requests_refused_total', { code: 'unauthorized' })).toBe(1);
  expect(value('requests_refused_total', { code: 'overloaded' })).toBe(41);
});

test('each URI shows its version, its age, and how long it may still be given', async () => {
  const models = (): ModelSummary[] => [
    {
      name: 'churn',
      refs: [REF, { ...REF, model_uri: 'models:/churn@old', ref: '@old', version: '1', age_s: 604_900 }],
    },
    { name: 'gone', refs: [{ ...REF, model_uri: 'models:/gone/1', ref: '1', path: null, version: null }] },
  ];
  const configured = uris('models:/churn/production', 'models:/absent/Staging');
  const found = await metrics({ models, configured }).families();
  const samples = (name: string) =>
    found.get(`mlflow_sidecar_${name}`)?.series.map(({ labels, value }) => [...Object.values(labels), value]);
  expect(samples('model_published')).toEqual([
    ['churn', 'Production', 1],
    ['absent', 'Staging', 0],
    ['churn', '@old', 1],
  ]);
  expect(samples('model_age_seconds')).toEqual([
    ['churn', 'Production', 5],
    ['churn', '@old', 604_900],
  ]);
  expect(samples('model_stale_seconds_left')).toEqual([
    ['churn', 'Production', 604_795],
    ['churn', '@old', -100],
  ]);
  expect(samples('model_info')).toEqual([
    ['churn', 'Production', '2', 1],
    ['churn', '@old', '1', 1],
  ]);
});

test('a model that is not cached any more is not shown any more', async () => {
  let models: readonly ModelSummary[] = [{ name: 'churn', refs: [REF] }];
  const { text } = metrics({ models: () => models });
  expect(await text()).toContain('model_age_seconds{model="churn"');
  models = [];
  expect(await text()).not.toContain('model="churn"');
});

test('work, cache and breakers show as they are at the scrape', async () => {
  let joined = 3;
  let used: number | null = null;
  const found = metrics({
    work: () => ({ calls: 2, runs: 1, questions: 7, joined }),
    jobsRunning: () => 0,
    cache: () => ({ usable: false, models: 4, bytes: 500, used_bytes: used, free_bytes: 80 }),
    breakers: () => [{ name: 'registry', host: 'mlflow:5000', state: 'half-open' }],
  });
  const first = await found.families();
  const value = (families: typeof first, name: string, labels = {}) =>
    sampleOf(families, `mlflow_sidecar_${name}`, labels);
  const plain = [
    'calls_waiting',
    'runs_in_flight',
    'questions_waiting',
    'runs_joined_total',
    'cache_usable',
    'cache_refs',
    'cache_bytes',
  ];
  expect(plain.map(name => value(first, name))).toEqual([2, 1, 7, 3, 0, 4, 500]);
  expect(value(first, 'cache_max_bytes')).toBe(1_000);
  const breaker = { name: 'registry', host: 'mlflow:5000' };
  const states = ['closed', 'open', 'half-open'].map(state =>
    value(first, 'breaker_state', { ...breaker, state }),
  );
  expect(states).toEqual([0, 0, 1]);
  expect(first.get('mlflow_sidecar_cache_used_bytes')?.series).toEqual([]);
  expect(value(first, 'cache_free_bytes')).toBe(80);
  joined = 5;
  used = 700;
  const second = await found.families();
  expect(value(second, 'runs_joined_total')).toBe(5);
  expect(value(second, 'cache_used_bytes')).toBe(700);
});

test('what collections removed, and what was found damaged, is counted', async () => {
  const { emit, families } = metrics();
  emit(
    { type: 'cache_collected', snapshots: 2, freedBytes: 300, why: ['space'] },
    { type: 'cache_collected', snapshots: 0, freedBytes: 5, why: ['litter'] },
    {
      type: 'blob_damaged',
      path: 'blobs/sha256/ab/abcd',
      sha256: null,
      size: null,
      found: 'is missing',
      snapshots: [],
      modelUris: [],
      error: null,
    },
  );
  const found = await families();
  const names = ['collected_snapshots', 'freed_bytes', 'damaged_blobs'];
  const totals = names.map(name => sampleOf(found, `mlflow_sidecar_cache_${name}_total`, {}));
  expect(totals).toEqual([2, 305, 1]);
});

test('changes of breakers are counted, by host for the first 100 of them', async () => {
  const { emit, families } = metrics();
  const opened = { type: 'breaker_changed', from: 'closed', to: 'open', reason: null } as const;
  emit(
    { ...opened, name: 'registry', host: 'mlflow:5000' },
    { ...opened, name: 'registry', host: 'mlflow:5000' },
  );
  for (let i = 0; i < 200; i++) emit({ ...opened, name: 'artifacts', host: `store-${i}` });
  const found = await families();
  const total = (name: string, host: string) =>
    sampleOf(found, 'mlflow_sidecar_breaker_transitions_total', { name, host, to: 'open' });
  expect(total('registry', 'mlflow:5000')).toBe(2);
  expect([total('artifacts', 'store-98'), total('artifacts', 'other')]).toEqual([1, 101]);
  expect(found.get('mlflow_sidecar_breaker_transitions_total')?.series).toHaveLength(101);
});

test('10,000 reloads of names that do not exist add no line', async () => {
  const { emit, text } = metrics({ models: () => [{ name: 'churn', refs: [REF] }] });
  const before = lines(await text());
  for (let i = 0; i < 10_000; i++) emit(missing(`bad-${i}`));
  const after = await text();
  expect(lines(after)).toBe(before);
  const labels = { model: 'other', status: 'missing', code: 'model_not_found' };
  expect(sampleOf(parseExposition(after), 'mlflow_sidecar_reloads_total', labels)).toBe(10_000);
});

test('names get a label of their own where they are configured, cached or given, and only up to 500', async () => {
  const { emit, families } = metrics({
    configured: uris('models:/configured/1'),
    models: () => [{ name: 'churn', refs: [REF] }],
  });
  emit(missing('configured'), missing('churn'), missing('unheard-of'));
  for (let i = 0; i < 600; i++) emit(reloaded({ name: `given-${i}` }));
  const series = (await families()).get('mlflow_sidecar_reloads_total')?.series ?? [];
  const names = new Set(series.map(({ labels }) => labels['model']));
  expect(names.size).toBe(501);
  expect(['configured', 'churn', 'other', 'given-497'].filter(name => !names.has(name))).toEqual([]);
  expect(['unheard-of', 'given-498'].filter(name => names.has(name))).toEqual([]);
  expect(series.reduce((sum, { value }) => sum + value, 0)).toBe(603);
});

test('what a caller’s own credential was given makes no name known', async () => {
  const { emit, text } = metrics();
  emit(reloaded({ name: 'secret-project' }, 'Bearer of-the-caller'));
  expect(await text()).not.toContain('secret-project');
});

test('more than 1,000 URIs show the configured ones and are cut', async () => {
  const refs = Array.from({ length: 1_500 }, (_, i) => ({
    ...REF,
    model_uri: `models:/churn/${i + 1}`,
    ref: String(i + 1),
  }));
  const found = await metrics({
    models: () => [{ name: 'churn', refs }],
    configured: uris('models:/churn/1400'),
  }).families();
  const series = found.get('mlflow_sidecar_model_age_seconds')?.series ?? [];
  expect(series).toHaveLength(1_000);
  expect(series[0]?.labels['ref']).toBe('1400');
});

const HOSTILE = [
  'with "quotes"',
  'back\\slash\\',
  'two\nlines',
  '模型'.repeat(130),
  'a|b',
  '} 1\nmlflow_sidecar_x_total 5',
  ' \u2028🦊',
];

test.each(HOSTILE)('a name such as %j comes out as it went in', async name => {
  const { emit, families } = metrics({ models: () => [{ name, refs: [{ ...REF, ref: `@${name}` }] }] });
  emit(reloaded({ name }));
  const found = await families();
  expect(sampleOf(found, 'mlflow_sidecar_reloads_total', { model: name, status: 'loaded', code: '' })).toBe(
    1,
  );
  expect(sampleOf(found, 'mlflow_sidecar_model_age_seconds', { model: name, ref: `@${name}` })).toBe(5);
});

test('two URIs whose parts hold a bar stay two', async () => {
  const models = () => [
    { name: 'a|b', refs: [{ ...REF, model_uri: 'models:/a|b@c', ref: 'c', age_s: 1 }] },
    { name: 'a', refs: [{ ...REF, model_uri: 'models:/a@b|c', ref: 'b|c', age_s: 2 }] },
  ];
  const found = await metrics({ models }).families();
  const age = (model: string, ref: string) =>
    sampleOf(found, 'mlflow_sidecar_model_age_seconds', { model, ref });
  expect([age('a|b', 'c'), age('a', 'b|c')]).toEqual([1, 2]);
});

test('a blocked event loop shows as lag once, and an idle one does not count the interval of the watch', async () => {
  const { families } = metrics();
  const worst = async () =>
    sampleOf(await families(), 'mlflow_sidecar_event_loop_lag_seconds', { quantile: '1' }) ?? -1;
  await delay(60);
  const until = performance.now() + 1_500;
  while (performance.now() < until);
  await delay(60);
  expect(await worst()).toBeGreaterThan(1.4);
  await delay(100);
  expect(await worst()).toBeLessThan(1.4);
});

test('the process and the build are described', async () => {
  const found = await metrics().families();
  expect(sampleOf(found, 'mlflow_sidecar_build_info', { version: '1.2.3', node: process.version })).toBe(1);
  expect(sampleOf(found, 'process_resident_memory_bytes')).toBeGreaterThan(10e6);
  expect(sampleOf(found, 'process_cpu_seconds_total')).toBeGreaterThan(0);
  const started = sampleOf(found, 'process_start_time_seconds') ?? 0;
  expect(Math.abs(started - (Date.now() / 1_000 - process.uptime()))).toBeLessThan(1);
});
