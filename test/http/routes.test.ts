import { describe, expect, test } from 'vitest';
import { BREAKER, CATALOG, call, members, post, problem, sidecar, uris } from './support.ts';

test('GET /v1/models lists what is cached', async () => {
  const { url } = await sidecar();
  const reply = await call(`${url}/v1/models`);
  expect(reply.status).toBe(200);
  expect(members(reply)).toEqual({
    models: CATALOG.models({ requestId: '', airflow: {}, authorization: null }),
  });
});

test('GET /v1/models/{name} shows one model', async () => {
  const { url } = await sidecar();
  const reply = await call(`${url}/v1/models/topic-classification`);
  expect(reply.status).toBe(200);
  expect(members(reply)).toMatchObject({ name: 'topic-classification', refs: [{ version: '2', age_s: 5 }] });
});

test('a name that only an address of the catalog could have is still found: a run’s', async () => {
  const model = () => ({ name: 'runs:r1', refs: [] });
  const { url } = await sidecar({ catalog: { ...CATALOG, model } });
  expect(members(await call(`${url}/v1/models/runs%3Ar1`))).toEqual({ name: 'runs:r1', refs: [] });
});

test('GET /v1/models/{name} of a model that is not cached is not_found', async () => {
  const { url } = await sidecar();
  const reply = await call(`${url}/v1/models/nothing`);
  expect(reply.status).toBe(404);
  expect(problem(reply)).toMatchObject({
    code: 'not_found',
    detail: 'Nothing of a model "nothing" is cached.',
  });
});

test('GET /v1/status tells of the version, MLflow, the cache and the configured models', async () => {
  const { url } = await sidecar({ settings: { models: uris('models:/a/production') } });
  const reply = await call(`${url}/v1/status`);
  expect(reply.status).toBe(200);
  expect(members(reply)).toEqual({
    version: '1.2.3',
    uptime_s: expect.any(Number),
    mlflow: CATALOG.registry(),
    breaker: 'open',
    breakers: [BREAKER],
    cache: CATALOG.cache(),
    models: ['models:/a/Production'],
    prewarm: [],
  });
});

test('GET /healthz is ok whatever the rest is', async () => {
  const { url } = await sidecar({ isReady: () => ({ ready: false, problem: 'no disk' }) });
  const reply = await call(`${url}/healthz`);
  expect([reply.status, members(reply)]).toEqual([200, { status: 'ok' }]);
});

test('GET /readyz is ready', async () => {
  const { url } = await sidecar();
  const reply = await call(`${url}/readyz`);
  expect([reply.status, members(reply)]).toEqual([200, { status: 'ready' }]);
});

test('GET /readyz where the cache can only be read is ready all the same, and says why', async () => {
  const detail = 'The cache directory is read-only.';
  const { url } = await sidecar({ isReady: () => ({ ready: true, problem: detail }) });
  const reply = await call(`${url}/readyz`);
  expect([reply.status, members(reply)]).toEqual([200, { status: 'degraded', detail }]);
});

test('GET /readyz that is not ready says why, and is no refusal', async () => {
  const { url, events } = await sidecar({
    isReady: () => ({ ready: false, problem: 'The cache directory is read-only.' }),
  });
  const reply = await call(`${url}/readyz`);
  expect(reply.status).toBe(503);
  expect(problem(reply)).toMatchObject({
    status: 503,
    code: 'internal',
    detail: 'The cache directory is read-only.',
  });
  expect(Number(reply.headers.get('retry-after'))).toBeGreaterThanOrEqual(1);
  expect(events).toEqual([]);
});

describe('routes that are not there', () => {
  const ABSENT = [
    '/',
    '/v1',
    '/v2/reload',
    '/V1/reload',
    '/v1/jobs',
    '/v1/jobs/1/other',
    '/v1/events',
    '/v1/webhooks/mlflow',
    '/health',
    '/version',
    '/api/2.0/mlflow/registered-models/get',
    '/v1/models/a/b',
    '/v1/models/a/b/reload',
  ];
  test.each(ABSENT)('%s is not_found', async path => {
    const { url, events } = await sidecar();
    for (const method of ['GET', 'POST']) {
      const reply = await call(url + path, { method });
      expect(reply.status).toBe(404);
      expect(problem(reply)).toMatchObject({ code: 'not_found', status: 404 });
    }
    expect(events).toHaveLength(2);
  });
});

describe('methods that are not there', () => {
  const READS = [
    '/v1/models',
    '/v1/models/a',
    '/v1/status',
    '/healthz',
    '/readyz',
    '/openapi.json',
    '/metrics',
  ];
  test.each([
    ...READS.flatMap(path =>
      ['POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS'].map(method => [method, path, 'GET, HEAD']),
    ),
    ...['/v1/reload', '/v1/models/a/reload'].flatMap(path =>
      ['GET', 'HEAD', 'PUT', 'DELETE', 'OPTIONS'].map(method => [method, path, 'POST']),
    ),
  ])('%s %s is method_not_allowed', async (method = '', path = '', allowed = '') => {
    const { url } = await sidecar();
    const reply = await call(url + path, { method });
    expect(reply.status).toBe(405);
    expect(reply.headers.get('allow')).toBe(allowed);
    if (method !== 'HEAD') expect(problem(reply).code).toBe('method_not_allowed');
  });

  test.each(READS.filter(path => path !== '/v1/models/a'))('HEAD %s is GET without the body', async path => {
    const { url } = await sidecar();
    const got = await call(url + path);
    const head = await call(url + path, { method: 'HEAD' });
    expect([head.status, head.text]).toEqual([200, '']);
    expect(head.headers.get('content-type')).toBe(got.headers.get('content-type'));
    if (path !== '/v1/status')
      expect(Number(head.headers.get('content-length'))).toBe(Buffer.byteLength(got.text));
  });
});

test('no answer says what it was made with, or may be kept', async () => {
  const { url } = await sidecar();
  for (const path of ['/healthz', '/v1/models', '/nowhere']) {
    const { headers } = await call(url + path, { headers: { 'if-none-match': '*' } });
    expect(headers.get('x-powered-by')).toBeNull();
    expect(headers.get('etag')).toBeNull();
    expect(headers.get('cache-control')).toBe('no-store');
    expect(headers.get('x-content-type-options')).toBe('nosniff');
  }
});

test('an If-None-Match is not answered with 304', async () => {
  const { url } = await sidecar();
  expect((await call(`${url}/v1/models`, { headers: { 'if-none-match': '*' } })).status).toBe(200);
});

test('a path with a slash at its end is the same path', async () => {
  const { url } = await sidecar();
  expect((await post(`${url}/v1/reload/`, { model_uri: 'models:/a/1' })).status).toBe(200);
});
