import { describe, expect, test } from 'vitest';
import { parseModelUri } from '../../src/domain/model-uri.ts';
import { Breaker } from '../../src/policy/breaker.ts';
import type { Question } from '../../src/registry/client.ts';
import { ManualClock } from '../reload/support.ts';
import { call, serve } from '../upstream/support.ts';
import { asking, logged, mlflowWith, registered } from './support.ts';

/** 12 metrics with 2,500 values each, as MLflow writes them: 8 MB. */
const CURVES = Array.from({ length: 30_000 }, (_, n) => ({
  key: `validation_metric_${n % 12}`,
  value: n / 7,
  timestamp: 1_731_358_595_000 + n,
  step: Math.floor(n / 12),
  model_id: 'm-0123456789abcdef0123456789abcdef',
  run_id: '0123456789abcdef0123456789abcdef',
  dataset_name: 'validation',
  dataset_digest: '0123456789',
}));

/** A busy machine takes long to write and read them. */
const PATIENT = { tryTimeoutMs: 60_000 };

function curved(change: Readonly<Record<string, unknown>> = {}): object {
  return { ...logged(change), data: { metrics: CURVES } };
}

describe('with its metric curves', () => {
  test('a logged model is resolved', async () => {
    const { url } = await mlflowWith({ 'logged-models/m-0123': () => ({ body: { model: curved() } }) });
    const { registry } = await asking(url, PATIENT);
    const found = await registry.resolve(parseModelUri('models:/m-0123'), call());
    expect(found).toMatchObject({ root: ['mlflow-artifacts:/0/models/m-0123/artifacts'], fault: null });
  });

  test('a run and the model that it logged are', async () => {
    const info = { run_id: 'run-3', experiment_id: '7', artifact_uri: 'mlflow-artifacts:/7/run-3/artifacts' };
    const models = [curved({ source_run_id: 'another' }), curved()];
    const { url } = await mlflowWith({
      'runs/get': () => ({ body: { run: { info, data: { metrics: CURVES } } } }),
      'logged-models/search': () => ({ body: { models, next_page_token: 'more' } }),
    });
    const { registry } = await asking(url, PATIENT);
    const found = await registry.resolve(parseModelUri('runs:/run-3/model'), call());
    expect(found.root).toEqual([
      'mlflow-artifacts:/7/run-3/artifacts/model',
      'mlflow-artifacts:/0/models/m-0123/artifacts',
    ]);
  });
});

test('what is more than is read is too_large: not asked again, and no word against the server', async () => {
  const versions = Array.from({ length: 50_001 }, () => ({}));
  const upstream = await serve(() => ({ body: { model_versions: versions } }));
  const breaker = new Breaker({
    who: 'MLflow',
    limits: { failures: 1, resetMs: 60_000 },
    clock: new ManualClock(),
    onChange: () => undefined,
  });
  const { client } = await asking(upstream.url, { attempts: 3, breakerOf: () => breaker, ...PATIENT });
  const asked = client.ask(
    { path: 'registered-models/get-latest-versions', body: { name: 'churn' } },
    call(),
  );
  await expect(asked).rejects.toMatchObject({ code: 'too_large', message: /more than 50000 entries/ });
  expect(upstream.asked).toHaveLength(1);
  expect(breaker.state).toBe('closed');
  breaker.dispose();
});

const VERSION = registered();
const SHAPES: readonly (readonly [string, readonly unknown[], readonly unknown[]])[] = [
  ['registered-models/get-latest-versions', [{}, { model_versions: [VERSION] }], [{ model_versions: {} }]],
  ['registered-models/search', [{}, { registered_models: [{}] }], [{ registered_models: [1] }]],
  ['model-versions/search', [{}, { model_versions: [VERSION], next_page_token: 'x' }], []],
  ['logged-models/search', [{}, { models: [logged()] }, { next_page_token: 'x' }], [{ models: [{}] }]],
  ['runs/search', [{}, { runs: [] }], [{ run: {} }]],
  ['experiments/search', [{}, { experiments: [{}] }], []],
  ['artifacts', [{}, { files: [{ path: 'a' }] }], [{ files: 'none' }]],
  ['registered-models/get', [{ registered_model: {} }], [{}]],
  ['registered-models/alias', [{ model_version: VERSION }], [{}, { model_version: [VERSION] }]],
  ['model-versions/get', [{ model_version: VERSION }], [{}]],
  ['model-versions/get-download-uri', [{ artifact_uri: 's3://a' }], [{}, { artifact_uri: {} }]],
  ['logged-models/m-1', [{ model: logged() }], [{}, { model: {} }]],
  ['runs/get', [{ run: { info: {} } }], [{}, { run: { data: {} } }]],
];

describe.each(SHAPES)('%s takes', (path, proper, wrong) => {
  const ask = async (body: unknown, passes: Question['passes']) => {
    const { url } = await serve(() => ({ body }));
    const { client } = await asking(url);
    return await client.ask({ path, ...(passes === undefined ? {} : { passes }) }, call());
  };

  test.each(proper)('%j as MLflow’s', async body => {
    expect(await ask(body, undefined)).toMatchObject({ status: 200, body });
    expect(await ask(body, 'read')).toMatchObject({ status: 200, body });
  });

  test.each([
    { message: 'rate limited' },
    { message: 'rate limited', error_code: 'REQUEST_LIMIT_EXCEEDED' },
    { message: 'rate limited'.padEnd(20_000, '.') },
    ...wrong,
  ])('%# for no answer', async body => {
    await expect(ask(body, undefined)).rejects.toMatchObject({ code: 'mlflow_error' });
    await expect(ask(body, 'read')).rejects.toMatchObject({ code: 'mlflow_error' });
  });
});
