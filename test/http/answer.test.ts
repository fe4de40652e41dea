import { describe, expect, test } from 'vitest';
import { SidecarError } from '../../src/domain/errors.ts';
import { formatModelUri } from '../../src/domain/model-uri.ts';
import { noteRetryAfter, type Outcome } from '../../src/domain/outcome.ts';
import { outcome } from '../support/outcome.ts';
import { bytesOf, failure, members, type namedBy, post, problem, sendBytes, sidecar } from './support.ts';

const URI = 'models:/a/Production';

describe('the HTTP status of an outcome', () => {
  const warning = { code: 'mlflow_unreachable' as const, message: 'refused', hint: null };
  const cases: [Outcome, number, number][] = [
    [outcome(), 200, 200],
    [outcome({ status: 'unchanged' }), 200, 200],
    [outcome({ status: 'stale', warning }), 200, 200],
    [failure('missing', 'no_version_in_stage'), 200, 404],
    [failure('missing', 'alias_not_found'), 200, 404],
    [failure('failed', 'mlflow_unreachable'), 200, 503],
    [failure('failed', 'too_stale'), 200, 503],
    [failure('failed', 'version_not_ready'), 200, 503],
    [failure('failed', 'mlflow_timeout'), 200, 504],
    [failure('failed', 'deadline_exceeded'), 200, 504],
    [failure('failed', 'artifact_corrupt'), 200, 502],
    [failure('failed', 'disk_full'), 200, 507],
    [failure('failed', 'internal'), 200, 500],
  ];
  const named = cases.map(
    ([given, warn, fail]) => [given.status, given.warning?.code, warn, fail, given] as const,
  );
  test('a failure that knows when to ask again says so, in seconds rounded up', async () => {
    const given = failure('failed', 'circuit_open');
    noteRetryAfter(given, new SidecarError('circuit_open', 'it broke', { retryAfterS: 41.2 }));
    const { url } = await sidecar({ reload: () => given });
    const failed = await post(`${url}/v1/reload`, { model_uri: URI, on_failure: 'fail' });
    expect([failed.status, failed.headers.get('retry-after')]).toEqual([503, '42']);
    expect(Object.keys(members(failed))).not.toContain('retry_after_s');
    const warned = await post(`${url}/v1/reload`, { model_uri: URI });
    expect([warned.status, warned.headers.get('retry-after')]).toEqual([200, null]);
  });

  test.each(named)('%s %s is %i with warn and %i with fail', async (_status, code, warn, fail, given) => {
    const { url, events } = await sidecar({ reload: () => given });
    const warned = await post(`${url}/v1/reload`, { model_uri: URI });
    expect(warned.status).toBe(warn);
    expect(members(warned)).toEqual(given);
    const failed = await post(`${url}/v1/reload`, { model_uri: URI, on_failure: 'fail' });
    expect(failed.status).toBe(fail);
    expect(members(failed)).toMatchObject(given);
    expect(failed.headers.get('retry-after')).toBe(fail === 503 ? '5' : null);
    if (fail >= 400) {
      expect(failed.headers.get('content-type')).toBe('application/problem+json');
      expect(problem(failed)).toMatchObject({ code, detail: 'it broke', type: 'about:blank' });
      expect(problem(failed).hint).toContain('lazy-loaded');
    }
    expect(events).toEqual([]);
  });

  test('of several, the first worst one decides', async () => {
    const byUri: Record<string, Outcome> = {
      'models:/m/1': outcome(),
      'models:/m/2': failure('missing', 'version_not_found'),
      'models:/m/3': failure('failed', 'mlflow_timeout', 'too slow'),
      'models:/m/4': failure('failed', 'disk_full'),
    };
    const reload = (request: Parameters<typeof namedBy>[0]) =>
      byUri[formatModelUri(request.uri)] ?? outcome();
    const { url } = await sidecar({ reload });
    const reply = await post(`${url}/v1/reload`, { model_uris: Object.keys(byUri), on_failure: 'fail' });
    expect(reply.status).toBe(504);
    expect(members(reply)).toMatchObject({
      status: 'failed',
      code: 'mlflow_timeout',
      title: 'Gateway Timeout',
      detail: 'too slow',
      models: Object.values(byUri),
      duration_s: expect.any(Number),
    });
    const first = await post(`${url}/v1/reload`, {
      model_uris: ['models:/m/1', 'models:/m/2'],
      on_failure: 'fail',
    });
    expect(first.status).toBe(404);
    expect((await post(`${url}/v1/reload`, { model_uris: Object.keys(byUri) })).status).toBe(200);
  });
});

describe('the human report', () => {
  const report = { accept: 'text/plain' };

  test.each([
    ['text/plain', 'text/plain'],
    ['text/*', 'text/plain'],
    ['application/json;q=0.4, text/plain;q=0.5', 'text/plain'],
    ['text/plain, */*', 'text/plain'],
    ['text/plain;q=0.1, application/json', 'application/json'],
    ['*/*', 'application/json'],
    ['text/html', 'application/json'],
    ['application/problem+json', 'application/json'],
    ['nonsense;;', 'application/json'],
    ['', 'application/json'],
  ])('Accept: %s is answered in %s', async (accept, expected) => {
    const { port } = await sidecar();
    const bytes = bytesOf('POST', `/v1/reload?model_uri=${URI}`, ['Host: localhost', `Accept: ${accept}`]);
    expect((await sendBytes(port, bytes)).headers.get('content-type')).toBe(`${expected}; charset=utf-8`);
  });

  test('a success', async () => {
    const { url } = await sidecar({ reload: () => outcome() });
    const reply = await post(`${url}/v1/reload`, { model_uri: URI }, report);
    expect(reply.status).toBe(200);
    expect(reply.text).toMatch(/^🔄 Reloading topic-classification\.\.\.\n/);
    expect(reply.text).toMatch(/\n\n✅ Model reload task complete\n$/);
  });

  test('with an error status the first line is the code and the message', async () => {
    const missing = failure('missing', 'no_version_in_stage', 'No version is in stage Production.');
    const { url } = await sidecar({ reload: () => missing });
    const failed = await post(`${url}/v1/reload`, { model_uris: [URI], on_failure: 'fail' }, report);
    expect(failed.status).toBe(404);
    const [first, second] = failed.text.split('\n');
    expect(first).toBe('❌ no_version_in_stage: No version is in stage Production.');
    expect(second).toBe('🔄 Reloading topic-classification...');
    const warned = await post(`${url}/v1/reload`, { model_uri: URI }, report);
    expect(warned.status).toBe(200);
    expect(warned.text).toMatch(/^🔄/);
    expect(warned.text).toContain('   This may be expected if no model is in Production stage yet.\n');
  });

  test('a refusal says all faults in its first line', async () => {
    const { url } = await sidecar();
    const reply = await post(`${url}/v1/reload`, { x: 1, force: 2 }, report);
    expect(reply.status).toBe(400);
    expect(reply.headers.get('content-type')).toBe('text/plain; charset=utf-8');
    expect(reply.text.split('\n')).toEqual([
      '❌ invalid_request: x: unknown field; force: must be true or false',
      expect.stringContaining('   The fields are: model_uri, '),
      '',
    ]);
  });
});
