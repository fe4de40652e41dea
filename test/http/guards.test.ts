import { describe, expect, test } from 'vitest';
import type { Caller } from '../../src/domain/caller.ts';
import { bytesOf, CATALOG, call, post, problem, sendBytes, sidecar } from './support.ts';

const UUID = /^[\da-f]{8}-[\da-f]{4}-4[\da-f]{3}-[89ab][\da-f]{3}-[\da-f]{12}$/;

describe('request id', () => {
  test.each(['a', 'dag.run:2026-11-23_x', 'x'.repeat(128)])('a valid one is echoed: %s', async id => {
    const { url } = await sidecar();
    const reply = await call(`${url}/healthz`, { headers: { 'x-request-id': id } });
    expect(reply.headers.get('x-request-id')).toBe(id);
  });

  test.each(['x'.repeat(129), 'a b', 'a/b', 'a,b'])(
    'an invalid one is replaced by a fresh one: %s',
    async id => {
      const { url } = await sidecar();
      const reply = await call(`${url}/healthz`, { headers: { 'x-request-id': id } });
      expect(reply.headers.get('x-request-id')).toMatch(UUID);
    },
  );

  test.each(['/nowhere', '/v1/models/%zz', '/v1/reload', '/v1/models'])(
    'every answer has one: %s',
    async path => {
      const { url } = await sidecar();
      const reply = await call(url + path);
      expect(reply.headers.get('x-request-id')).toMatch(UUID);
    },
  );

  test('the reloader is told of it', async () => {
    const { url, requests } = await sidecar();
    await post(`${url}/v1/reload`, { model_uri: 'models:/a/1' }, { 'x-request-id': 'mine' });
    expect(requests[0]?.caller.requestId).toBe('mine');
  });
});

describe('host', () => {
  const LOOPBACK = [
    'localhost',
    'LOCALHOST:5080',
    'a.localhost',
    '127.0.0.1',
    '127.1.2.3:80',
    '[::1]',
    '[::1]:5080',
  ];
  test.each(LOOPBACK)('a loopback name may be asked for: %s', async host => {
    const { port } = await sidecar();
    expect((await sendBytes(port, bytesOf('GET', '/v1/models', [`Host: ${host}`]))).status).toBe(200);
  });

  const FOREIGN = [
    'evil.example',
    'localhost.evil.example',
    '127.0.0.1.evil.example',
    'evillocalhost',
    '128.0.0.1',
    '127.0.0.1@evil.example',
    'evil.example#localhost',
    '[::2]',
    '::1',
    'localhost:x',
    '127.0.0.999',
    '0.0.0.0',
    'null',
    '',
  ];
  test.each(FOREIGN)('a foreign one is refused: %j', async host => {
    const { port, requests } = await sidecar();
    const reply = await sendBytes(
      port,
      bytesOf('POST', '/v1/reload?model_uri=models:/a/1', [`Host: ${host}`]),
    );
    expect(reply.status).toBe(403);
    expect(problem(reply)).toMatchObject({ code: 'forbidden_host', status: 403 });
    expect(problem(reply).hint).toContain('SIDECAR_ALLOWED_HOSTS');
    expect(requests).toEqual([]);
  });

  test('a request without one is refused with a reason and a request id', async () => {
    const { port } = await sidecar();
    const reply = await sendBytes(port, bytesOf('GET', '/v1/models', []));
    expect(reply.status).toBe(403);
    expect(problem(reply).detail).toBe('The Host header is missing.');
    expect(reply.headers.get('x-request-id')).toMatch(UUID);
  });

  test.each(['/v1/models', '/healthz', '/nowhere'])('two of them are refused, for %s, too', async path => {
    const { port } = await sidecar();
    for (const second of ['Host: localhost', 'HOST: evil.example', 'host:']) {
      const reply = await sendBytes(port, bytesOf('GET', path, ['Host: localhost', 'Accept: */*', second]));
      expect(reply.status).toBe(400);
      expect(problem(reply)).toMatchObject({
        code: 'invalid_request',
        detail: 'The request has more than one Host header.',
      });
    }
  });

  test('a configured name, or a pattern of names, may be asked for in any case', async () => {
    const { port } = await sidecar({ settings: { allowedHosts: ['sidecar', '*.Svc.cluster.local'] } });
    const statusFor = async (host: string) =>
      (await sendBytes(port, bytesOf('GET', '/v1/models', [`Host: ${host}`]))).status;
    expect(await statusFor('Sidecar:5080')).toBe(200);
    expect(await statusFor('a.ns.svc.CLUSTER.local')).toBe(200);
    expect(await statusFor('svc.cluster.local.evil')).toBe(403);
  });

  test('with * any host may be asked for', async () => {
    const { port } = await sidecar({ settings: { allowedHosts: ['*'] } });
    expect((await sendBytes(port, bytesOf('GET', '/v1/models', ['Host: 10.0.0.7']))).status).toBe(200);
  });

  test('the host of an absolute target counts for nothing', async () => {
    const { port } = await sidecar();
    const evil = await sendBytes(port, bytesOf('GET', 'http://localhost/v1/models', ['Host: evil.example']));
    expect(evil.status).toBe(403);
    const good = await sendBytes(port, bytesOf('GET', 'http://evil.example/v1/models', ['Host: localhost']));
    expect(good.status).toBe(200);
  });
});

describe('origin', () => {
  const REFUSED = [
    'null',
    'http://evil.example',
    'https://localhost.evil.example',
    'chrome-extension://x',
    'localhost',
    '',
  ];
  test.each(REFUSED)('a foreign one is refused: %j', async origin => {
    const { port, requests } = await sidecar();
    const headers = ['Host: localhost', `Origin: ${origin}`];
    const reply = await sendBytes(port, bytesOf('POST', '/v1/reload?model_uri=models:/a/1', headers));
    expect(reply.status).toBe(403);
    expect(problem(reply).code).toBe('forbidden_host');
    expect(requests).toEqual([]);
  });

  test.each(['http://localhost:3000', 'https://127.0.0.1', 'http://[::1]:8080', 'http://ui.example'])(
    'a loopback or configured one is let in: %s',
    async origin => {
      const { url } = await sidecar({ settings: { allowedHosts: ['ui.example'] } });
      expect((await call(`${url}/v1/models`, { headers: { origin } })).status).toBe(200);
    },
  );
});

describe('token', () => {
  const basic = (pair: string) => `Basic ${Buffer.from(pair).toString('base64')}`;

  const RIGHT = ['Bearer s3:cret', 'bearer s3:cret', basic('anyone:s3:cret'), basic(':s3:cret')];
  test.each(RIGHT)('the right one is let in: %s', async authorization => {
    const { url } = await sidecar({ settings: { token: 's3:cret' } });
    expect((await call(`${url}/v1/models`, { headers: { authorization } })).status).toBe(200);
  });

  test('as a Basic password it may hold any letter', async () => {
    const { url } = await sidecar({ settings: { token: 'pässwörd' } });
    expect((await call(`${url}/v1/models`, { headers: { authorization: basic('x:pässwörd') } })).status).toBe(
      200,
    );
  });

  const WRONG = [
    undefined,
    '',
    's3cret',
    'Bearer',
    'Bearer wrong',
    'Bearer s3cret x',
    'Digest s3cret',
    basic('s3cret'),
    basic('s3cret:'),
    basic('s3cret:wrong'),
    'Basic %%%',
  ];
  test.each(WRONG)('without the right one the answer is 401: %s', async authorization => {
    const { url, requests } = await sidecar({ settings: { token: 's3cret' } });
    const headers: Record<string, string> = authorization === undefined ? {} : { authorization };
    const reply = await post(`${url}/v1/reload`, { model_uri: 'models:/a/1' }, headers);
    expect(reply.status).toBe(401);
    expect(problem(reply)).toMatchObject({ code: 'unauthorized', status: 401 });
    expect(reply.headers.get('www-authenticate')).toMatch(/^Bearer realm=.*, Basic realm=/);
    expect(reply.text).not.toContain('s3cret');
    expect(requests).toEqual([]);
  });

  test.each([
    '/nowhere',
    '/v1/models',
    '/v1/models/a',
    '/v1/status',
    '/openapi.json',
    '/metrics',
    '/v1/reload',
  ])('a stranger learns nothing of %s', async path => {
    const { url } = await sidecar({ settings: { token: 's3cret' } });
    expect((await call(url + path)).status).toBe(401);
  });

  test('it never travels on', async () => {
    const { url, requests } = await sidecar({ settings: { token: 's3cret' } });
    await post(`${url}/v1/reload`, { model_uri: 'models:/a/1' }, { authorization: 'Bearer s3cret' });
    expect(requests[0]?.caller.authorization).toBeNull();
  });

  test('where none is set the caller’s own Authorization travels on, to the catalog too', async () => {
    const seen: (string | null)[] = [];
    const models = ({ authorization }: Caller) => {
      seen.push(authorization);
      return [];
    };
    const { url, requests } = await sidecar({ catalog: { ...CATALOG, models } });
    const headers = { authorization: 'Bearer of-the-caller' };
    await post(`${url}/v1/reload`, { model_uri: 'models:/a/1' }, headers);
    await call(`${url}/v1/models`, { headers });
    await call(`${url}/v1/models`);
    expect(requests[0]?.caller.authorization).toBe('Bearer of-the-caller');
    expect(seen).toEqual(['Bearer of-the-caller', null]);
  });
});

test.each(['/healthz', '/readyz'])('%s asks for no token, host or origin', async path => {
  const { port } = await sidecar({ settings: { token: 's3cret' } });
  const reply = await sendBytes(
    port,
    bytesOf('GET', path, ['Host: 10.1.2.3:5080', 'Origin: http://evil.example']),
  );
  expect(reply.status).toBe(200);
});

test('the host is checked before the token', async () => {
  const { port } = await sidecar({ settings: { token: 's3cret' } });
  expect((await sendBytes(port, bytesOf('GET', '/v1/models', ['Host: evil.example']))).status).toBe(403);
});

test('Airflow’s headers reach the reloader, cut to 250 characters and without control characters', async () => {
  const { port, requests } = await sidecar();
  const headers = [
    'Host: localhost',
    'X-Airflow-Dag-Id: ml_model_training',
    `X-Airflow-Run-Id: ${'r'.repeat(300)}`,
    'X-Airflow-Task-Id: reload\tmodels\u009b',
    'X-Airflow-Try-Number: 2',
    'X-Airflow-Map-Index: -1',
    'X-Airflow-Other: no',
  ];
  const bytes = bytesOf('POST', '/v1/reload?model_uri=models:/a/1', headers);
  await sendBytes(port, Buffer.from(bytes, 'latin1'));
  expect(requests[0]?.caller.airflow).toEqual({
    dag_id: 'ml_model_training',
    dag_run_id: 'r'.repeat(250),
    task_id: 'reloadmodels',
    try_number: '2',
    map_index: '-1',
  });
});
