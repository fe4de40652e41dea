import { expect, test } from 'vitest';
import { call, problem, sidecar } from './support.ts';

test('GET /metrics answers in Prometheus’ text format', async () => {
  const { url } = await sidecar();
  const reply = await call(`${url}/metrics`);
  expect([reply.status, reply.text]).toEqual([200, 'up 1\n']);
  expect(reply.headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8');
});

test('GET /metrics needs the token where one is set', async () => {
  const { url } = await sidecar({ settings: { token: 's3cret' } });
  const refused = await call(`${url}/metrics`);
  expect([refused.status, problem(refused).code]).toEqual([401, 'unauthorized']);
  const shown = await call(`${url}/metrics`, { headers: { authorization: 'Bearer s3cret' } });
  expect([shown.status, shown.text]).toEqual([200, 'up 1\n']);
});

test('only GET and HEAD are allowed there', async () => {
  const { url } = await sidecar();
  expect((await call(`${url}/metrics`, { method: 'HEAD' })).status).toBe(200);
  const refused = await call(`${url}/metrics`, { method: 'POST' });
  expect([refused.status, refused.headers.get('allow')]).toEqual([405, 'GET, HEAD']);
});

test('metrics that cannot be had are an internal error, not a hang', async () => {
  const { url } = await sidecar({ metrics: () => Promise.reject(new Error('broken')) });
  expect(problem(await call(`${url}/metrics`)).code).toBe('internal');
});
