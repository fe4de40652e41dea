import { text as readText } from 'node:stream/consumers';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import type { Caller } from '../../src/domain/caller.ts';
import { ERROR_CODES, SidecarError } from '../../src/domain/errors.ts';
import type { HttpSettings } from '../../src/http/deps.ts';
import { mlflowStatusOf } from '../../src/http/mlflow/errors.ts';
import { type Answer, answered } from '../../src/proxy/answer.ts';
import type { RelayRequest } from '../../src/proxy/relay-request.ts';
import { BESIDE_THE_API, OTHER_ROUTES } from '../support/mlflow-routes.ts';
import { bytesOf, call, members, problem, type Reply, sendBytes, sidecar } from './support.ts';

const API = '/api/2.0/mlflow';
const GET = `${API}/registered-models/get?name=a`;
const LATEST = `${API}/registered-models/get-latest-versions`;
/** MLflow's client tries these again seven times, which takes minutes. */
const RETRIED = [408, 429, 500, 502, 503, 504];

interface Asked {
  readonly kind: 'read' | 'list' | 'plain' | 'relay';
  /** What is asked: a read, a directory, a path, a request. */
  readonly what: unknown;
  readonly caller: Caller;
  readonly self?: string;
}

/** A sidecar whose proxy gives this answer to everything, or throws it, and tells what it was asked. */
async function standIn(
  answer: Answer | Error = answered('{"registered_model": {}}'),
  settings: Partial<HttpSettings> = {},
) {
  const asked: Asked[] = [];
  const give = async (one: Asked) => {
    asked.push(one);
    if (answer instanceof Error) throw answer;
    return answer;
  };
  const relay = async (request: RelayRequest, caller: Caller) => {
    const body = request.body === null ? null : await readText(request.body);
    const { text, status } = await give({ kind: 'relay', what: { ...request, body }, caller });
    const headers = { 'content-type': 'application/json', 'x-of-mlflow': 'yes' };
    const length = Buffer.byteLength(text);
    return { status, headers, length, body: pieces(text), close: () => undefined };
  };
  const running = await sidecar({
    settings: { proxy: 'read-only', ...settings },
    proxy: {
      read: (what, caller, self) => give({ kind: 'read', what, caller, self }),
      list: (what, caller) => give({ kind: 'list', what, caller }),
      plain: (what, caller) => give({ kind: 'plain', what, caller }),
      open: () => Promise.reject(new Error('not here')),
      relay,
    },
  });
  return { ...running, asked };
}

async function* pieces(...texts: readonly string[]): AsyncGenerator<Uint8Array> {
  for (const text of texts) yield Buffer.from(text);
}

const MlflowError = z.strictObject({
  error_code: z.string(),
  message: z.string().startsWith('mlflow-sidecar: '),
  code: z.string(),
  hint: z.string().nullable(),
});

function mlflowError(reply: Reply) {
  expect(reply.headers.get('content-type')).toBe('application/json');
  expect(reply.headers.get('retry-after')).toBeNull();
  expect(reply.headers.get('x-request-id')).not.toBeNull();
  expect(RETRIED).not.toContain(reply.status);
  return MlflowError.parse(JSON.parse(reply.text));
}

describe('a read', () => {
  test('is asked as it is meant, for its caller, by the address that the caller knows', async () => {
    const { port, asked } = await standIn();
    const headers = ['Host: localhost:1234', 'Authorization: Bearer mine', 'X-MLFLOW-WORKSPACE: team-a'];
    const reply = await sendBytes(port, bytesOf('GET', `${API}/%72egistered-models/get?name=a%20b`, headers));
    expect([reply.status, reply.text]).toEqual([200, '{"registered_model": {}}']);
    expect(reply.headers.get('content-type')).toBe('application/json');
    expect(asked).toMatchObject([
      {
        kind: 'read',
        what: { route: 'registered-models/get', question: { query: [['name', 'a b']] } },
        caller: { authorization: 'Bearer mine', workspace: 'team-a' },
        self: 'http://localhost:1234',
      },
    ]);
  });

  test('of now says nothing of its age', async () => {
    const { url } = await standIn();
    const { headers } = await call(url + GET);
    expect([headers.get('age'), headers.get('x-sidecar-stale')]).toEqual([null, null]);
    expect(headers.get('cache-control')).toBe('no-store');
  });

  test('that is old says how old, and why', async () => {
    const { url } = await standIn({ ...answered('{}'), source: 'kept', ageS: 7, stale: 'mlflow_timeout' });
    const { headers } = await call(url + GET);
    expect([headers.get('age'), headers.get('x-sidecar-stale')]).toEqual(['7', 'mlflow_timeout']);
  });

  test('by HEAD has the length and no body', async () => {
    const { port, asked } = await standIn();
    const reply = await sendBytes(port, bytesOf('HEAD', GET));
    expect([reply.status, reply.text]).toEqual([200, '']);
    expect(reply.headers.get('content-length')).toBe('24');
    expect(asked).toMatchObject([{ kind: 'read' }]);
  });

  test.each([
    [404, 'RESOURCE_DOES_NOT_EXIST'],
    [400, 'INVALID_PARAMETER_VALUE'],
    [403, 'PERMISSION_DENIED'],
  ])('that MLflow refuses with %i is refused in MLflow’s own words', async (status, code) => {
    const text = `{"error_code": "${code}", "message": "no"}`;
    const { url } = await standIn(answered(text, status));
    const reply = await call(url + GET);
    expect([reply.status, reply.text]).toEqual([status, text]);
  });

  test('and the health and version go as plain text', async () => {
    const { url, asked } = await standIn(answered('OK', 200, 'text/html; charset=utf-8'));
    for (const path of ['/health', '/version?x']) {
      const reply = await call(url + path);
      expect([reply.status, reply.text, reply.headers.get('content-type')]).toEqual([
        200,
        'OK',
        'text/html; charset=utf-8',
      ]);
    }
    expect(asked.map(({ what }) => what)).toEqual(['health', 'version']);
  });
});

describe('the body of a read', () => {
  const post = (port: number, body: string | Buffer, ...headers: readonly string[]) => {
    const head = ['Host: localhost', `Content-Length: ${Buffer.byteLength(body)}`, ...headers];
    return sendBytes(
      port,
      Buffer.concat([Buffer.from(bytesOf('POST', `${LATEST}?name=other`, head)), Buffer.from(body)]),
    );
  };
  const JSON_TYPE = 'Content-Type: application/json';

  test.each([
    ['{"name": "a", "stages": ["Production"]}', { name: 'a', stages: ['Production'] }],
    ['{}', {}],
    ['', {}],
  ])('%s is what MLflow is asked, and the query is not', async (body, meant) => {
    const { port, asked } = await standIn();
    expect((await post(port, body, JSON_TYPE)).status).toBe(200);
    const question = { path: 'registered-models/get-latest-versions', passes: 'read', body: meant };
    expect(asked).toEqual([expect.objectContaining({ what: expect.objectContaining({ question }) })]);
  });

  test.each<[string, string | Buffer, string, number]>([
    ['a list', '[]', JSON_TYPE, 400],
    ['a text', '"{}"', JSON_TYPE, 400],
    ['half of it', '{"name": ', JSON_TYPE, 400],
    ['no UTF-8', Buffer.from([0x7b, 0xff, 0x7d]), JSON_TYPE, 400],
    ['a form', 'name=a', 'Content-Type: application/x-www-form-urlencoded', 400],
    ['lists in lists', `{"stages": ${'['.repeat(20_000)}${']'.repeat(20_000)}}`, JSON_TYPE, 400],
    ['more than a MiB', `{"name": "${'x'.repeat(1_100_000)}"}`, JSON_TYPE, 413],
    ['XML', '<name>a</name>', 'Content-Type: text/xml', 415],
    ['another charset', '{}', `${JSON_TYPE}; charset=utf-7`, 415],
    ['compressed', '{}', `${JSON_TYPE}\r\nContent-Encoding: gzip`, 415],
  ])('that is %s is refused, and MLflow not asked', async (_, body, type, status) => {
    const { port, asked } = await standIn();
    const reply = await post(port, body, type);
    expect(reply.status).toBe(status);
    expect(mlflowError(reply).error_code).toBe('INVALID_PARAMETER_VALUE');
    expect(asked).toEqual([]);
  });
});

describe('a listing', () => {
  const ARTIFACTS = '/api/2.0/mlflow-artifacts/artifacts';

  test.each([
    ['', []],
    ['?path=', []],
    ['?path=0/m-1/a%20b', ['0', 'm-1', 'a b']],
    ['?path=0%2Fm-1/', ['0', 'm-1']],
    ['?other=x', []],
  ])('of %s', async (query, segments) => {
    const { url, asked } = await standIn(answered('{}'));
    expect((await call(url + ARTIFACTS + query)).status).toBe(200);
    expect(asked).toMatchObject([{ kind: 'list', what: segments }]);
  });

  test.each([
    '?path=..',
    '?path=0/../1',
    '?path=%2e%2e/x',
    '?path=0&path=1',
    '?path=/etc',
    '?path=a%00',
    '?path=%5c',
    '?path=%252e%252e',
  ])('of %s is refused, and nobody asked', async query => {
    const { url, asked } = await standIn();
    const reply = await call(url + ARTIFACTS + query);
    expect(reply.status).toBe(400);
    expect(mlflowError(reply).error_code).toBe('INVALID_PARAMETER_VALUE');
    expect(asked).toEqual([]);
  });
});

describe('what is no read', () => {
  test('is refused where nothing may be changed, with the option that would let it pass', async () => {
    const { port, asked, events } = await standIn();
    for (const route of OTHER_ROUTES) {
      const [method = '', path = ''] = route.split(' ');
      const reply = await sendBytes(
        port,
        bytesOf(method, path, ['Host: localhost'], method === 'GET' ? '' : '{}'),
      );
      const isPresigned = path.includes('/presigned');
      expect([route, reply.status]).toEqual([route, isPresigned ? 501 : 403]);
      const { error_code, message, hint } = mlflowError(reply);
      expect(error_code).toBe(isPresigned ? 'NOT_IMPLEMENTED' : 'PERMISSION_DENIED');
      if (!isPresigned) expect(`${message} ${hint}`).toContain('SIDECAR_PROXY=full');
    }
    expect(asked).toEqual([]);
    expect(events.length).toBe(OTHER_ROUTES.length);
    expect(events.at(-1)).toMatchObject({ type: 'request_refused', error: { code: 'not_allowed' } });
  });

  test.each(['read-only', 'full'] as const)('and none of MLflow’s API passes in no mode: %s', async proxy => {
    const { port, asked } = await standIn(answered('{}'), { proxy });
    for (const route of BESIDE_THE_API) {
      const [method = '', path = ''] = route.split(' ');
      const reply = await sendBytes(port, bytesOf(method, path));
      expect([route, reply.status]).toEqual([route, 403]);
      expect(mlflowError(reply).code).toBe('not_allowed');
    }
    expect(asked).toEqual([]);
  });

  test('is told elsewhere as ever', async () => {
    const { url, port } = await standIn();
    for (const path of ['/nowhere', '/API/2.0/mlflow/runs/get', '/v1/nothing', '/%']) {
      const reply = await call(url + path);
      expect(reply.headers.get('content-type')).toBe('application/problem+json');
      expect(reply.status).toBe(404);
    }
    expect(problem(await sendBytes(port, bytesOf('PUT', '/v1/reload'))).code).toBe('method_not_allowed');
  });

  test('passes in full, as it came, with the caller’s credential and a path that is made anew', async () => {
    const { port, asked } = await standIn(answered('{"run": {}}', 201), { proxy: 'full' });
    const headers = ['Host: localhost', 'Authorization: Bearer mine', 'X-Thing: a'];
    const reply = await sendBytes(
      port,
      bytesOf('POST', `${API}/runs/%63reate?x=a%20b&x=%26`, headers, '{"a": 1}'),
    );
    expect([reply.status, reply.text, reply.headers.get('x-of-mlflow')]).toEqual([201, '{"run": {}}', 'yes']);
    expect(asked).toMatchObject([
      {
        kind: 'relay',
        what: { method: 'POST', authorization: 'Bearer mine', body: '{"a": 1}', headers: { 'x-thing': 'a' } },
        caller: { authorization: 'Bearer mine' },
      },
    ]);
    const { url } = z.object({ url: z.instanceof(URL) }).parse(asked[0]?.what);
    expect(url.href).toBe('http://mlflow:5000/api/2.0/mlflow/runs/create?x=a+b&x=%26');
  });

  test.each([
    ['POST', `${API}/registered-models/create`, 'http://registry:5000', 'registry'],
    ['POST', `${API}/runs/create`, 'http://mlflow:5000', 'tracking'],
    ['PUT', '/api/2.0/mlflow-artifacts/artifacts/0/m-1/MLmodel', 'http://mlflow:5000', 'artifacts'],
    ['POST', '/api/2.0/mlflow-artifacts/mpu/create/x', 'http://mlflow:5000', 'artifacts'],
    ['POST', `${API}/mlflow-artifacts/x`, 'http://mlflow:5000', 'tracking'],
  ])('%s %s goes to %s, for its %s', async (method, path, server, kind) => {
    const upstreams = { registry: 'http://registry:5000', tracking: 'http://mlflow:5000' };
    const { port, asked } = await standIn(answered('{}'), { proxy: 'full', upstreams });
    expect((await sendBytes(port, bytesOf(method, path))).status).toBe(200);
    expect(asked).toMatchObject([{ what: { kind, url: new URL(server + path) } }]);
  });

  test.each(['read-only', 'full'] as const)(
    'spans by themselves are refused so that the client sends whole traces: %s',
    async proxy => {
      const { port, asked } = await standIn(answered('{}'), { proxy });
      const reply = await sendBytes(port, bytesOf('POST', '/v1/traces', ['Host: localhost'], 'spans'));
      expect(reply.status).toBe(501);
      expect(mlflowError(reply)).toMatchObject({
        error_code: 'NOT_IMPLEMENTED',
        code: 'not_implemented',
        // mlflow/tracing/export/mlflow_v3.py looks for it.
        message: expect.stringContaining('REST OTLP span logging is not supported'),
        hint: expect.stringContaining('/api/3.0'),
      });
      expect(asked).toEqual([]);
    },
  );

  test.each([
    '/api/2.0/mlflow/runs/%2e%2e/x',
    '/api/2.0/mlflow/../../graphql',
    '/api//2.0/mlflow/runs/create',
  ])('but not in full either, where it leads elsewhere: %s', async path => {
    const { port, asked } = await standIn(answered('{}'), { proxy: 'full' });
    const reply = await sendBytes(port, bytesOf('POST', path));
    expect(reply.status).toBe(400);
    expect(mlflowError(reply).code).toBe('invalid_request');
    expect(asked).toEqual([]);
  });

  test('and nothing is there at all where the sidecar does not stand in for MLflow', async () => {
    const { port, asked } = await standIn(answered('{}'), { proxy: 'off' });
    for (const route of [
      `GET ${GET}`,
      `POST ${LATEST}`,
      'GET /health',
      'GET /version',
      'POST /v1/traces',
      ...OTHER_ROUTES,
      ...BESIDE_THE_API,
    ]) {
      const [method = '', path = ''] = route.split(' ');
      const reply = await sendBytes(
        port,
        bytesOf(method, path, ['Host: localhost', 'X-MLFLOW-WORKSPACE: NO!']),
      );
      expect([route, reply.status]).toEqual([route, 404]);
      expect(problem(reply).code).toBe('not_found');
    }
    expect(asked).toEqual([]);
  });
});

describe('an error', () => {
  const DUE = new Map([
    [400, 'INVALID_PARAMETER_VALUE'],
    [401, 'UNAUTHENTICATED'],
    [403, 'PERMISSION_DENIED'],
    [404, 'RESOURCE_DOES_NOT_EXIST'],
    [413, 'INVALID_PARAMETER_VALUE'],
    [415, 'INVALID_PARAMETER_VALUE'],
    [501, 'NOT_IMPLEMENTED'],
  ]);

  test.each(ERROR_CODES)('%s is one that MLflow’s client does not try again', async code => {
    const error = new SidecarError(code, 'It broke.', { hint: 'Mend it.', retryAfterS: 7 });
    const { url } = await standIn(error);
    const reply = await call(url + GET);
    expect(reply.status).toBe(mlflowStatusOf(code));
    expect([...DUE.keys(), 424]).toContain(reply.status);
    const { error_code, message, ...more } = mlflowError(reply);
    if (reply.status !== 424) expect(error_code).toBe(DUE.get(reply.status));
    expect(error_code).toMatch(/^[A-Z_]+$/);
    expect(more.code).toBe(code);
    if (code === 'internal') expect(message).not.toContain('It broke.');
    else expect(message).toBe(`mlflow-sidecar: It broke. Mend it. (${code})`);
  });

  test.each([
    ['mlflow_unreachable', 'TEMPORARILY_UNAVAILABLE'],
    ['circuit_open', 'TEMPORARILY_UNAVAILABLE'],
    ['access_denied', 'PERMISSION_DENIED'],
    ['unsupported_scheme', 'INVALID_STATE'],
    ['artifact_corrupt', 'DATA_LOSS'],
    ['internal', 'INTERNAL_ERROR'],
  ] as const)('%s has nothing to give: 424, %s', async (code, name) => {
    const { url } = await standIn(new SidecarError(code, 'It broke.'));
    const reply = await call(url + GET, { headers: { accept: 'text/plain' } });
    expect([reply.status, mlflowError(reply).error_code]).toEqual([424, name]);
  });

  test('that nobody foresaw shows nothing of its own words', async () => {
    const { url, events } = await standIn(new TypeError('x of undefined at /secret/path'));
    const reply = await call(url + GET);
    expect(reply.status).toBe(424);
    expect(reply.text).not.toContain('secret');
    expect(mlflowError(reply).hint).toContain('log');
    expect(events).toMatchObject([{ type: 'request_refused', error: { code: 'internal' } }]);
  });
});

describe('a stranger', () => {
  test.each([
    ['a foreign host', ['Host: evil.example'], 403, 'PERMISSION_DENIED'],
    ['a foreign origin', ['Host: localhost', 'Origin: http://evil.example'], 403, 'PERMISSION_DENIED'],
    ['no host', [], 403, 'PERMISSION_DENIED'],
    ['two hosts', ['Host: localhost', 'Host: localhost'], 400, 'INVALID_PARAMETER_VALUE'],
    ['no token', ['Host: localhost'], 401, 'UNAUTHENTICATED'],
    ['another token', ['Host: localhost', 'Authorization: Bearer guess'], 401, 'UNAUTHENTICATED'],
  ])('with %s is refused in MLflow’s way, and MLflow not asked', async (_, headers, status, name) => {
    const { port, asked } = await standIn(answered('{}'), { token: 's3cret', proxy: 'full' });
    for (const path of [
      GET,
      '/health',
      `${API}/runs/create`,
      '/api/2.0/mlflow-artifacts/artifacts/x/y',
      '/graphql',
    ]) {
      const reply = await sendBytes(port, bytesOf(path.endsWith('create') ? 'POST' : 'GET', path, headers));
      expect([path, reply.status]).toEqual([path, status]);
      expect(mlflowError(reply).error_code).toBe(name);
      expect(reply.text).not.toContain('s3cret');
    }
    expect(asked).toEqual([]);
  });

  test('the token ends here, and so goes no further in full', async () => {
    const { port, asked } = await standIn(answered('{}'), { token: 's3cret', proxy: 'full' });
    const basic = Buffer.from('user:s3cret').toString('base64');
    for (const authorization of ['Bearer s3cret', `Basic ${basic}`]) {
      const headers = ['Host: localhost', `Authorization: ${authorization}`];
      for (const [method, path] of [
        ['GET', GET],
        ['POST', `${API}/runs/create`],
      ] as const)
        expect((await sendBytes(port, bytesOf(method, path, headers))).status).toBe(200);
    }
    expect(asked.map(({ caller }) => caller.authorization)).toEqual([null, null, null, null]);
    const relayed = asked.filter(({ kind }) => kind === 'relay');
    expect(relayed).toHaveLength(2);
    for (const { what } of relayed) expect(what).toMatchObject({ authorization: null });
  });
});

describe('the workspace', () => {
  const asked = async (port: number, path: string, ...values: readonly string[]) =>
    await sendBytes(
      port,
      bytesOf('GET', path, ['Host: localhost', ...values.map(value => `X-MLflow-Workspace: ${value}`)]),
    );

  test.each(['ab', 'team-a', '0-0', 'x'.repeat(63)])('%s is the caller’s', async workspace => {
    const { port, asked: seen } = await standIn();
    for (const path of [GET, '/health']) expect((await asked(port, path, workspace)).status).toBe(200);
    expect(seen.map(({ caller }) => caller.workspace)).toEqual([workspace, workspace]);
  });

  test('is none where none is named', async () => {
    const { port, asked: seen } = await standIn();
    await asked(port, GET);
    expect(seen[0]?.caller).not.toHaveProperty('workspace');
  });

  test.each([
    [''],
    ['a'],
    ['Team'],
    ['-a'],
    ['a-'],
    ['a b'],
    ['a_b'],
    ['x'.repeat(64)],
    ['../x'],
    ['é'],
    ['aa', 'bb'],
  ])('%j is none, and MLflow not asked', async (...values) => {
    const { port, asked: seen } = await standIn(answered('{}'), { proxy: 'full' });
    for (const path of [GET, '/health', `${API}/experiments/get`]) {
      const reply = await asked(port, path, ...values);
      expect([path, reply.status]).toEqual([path, 400]);
      expect(mlflowError(reply).message).toContain('X-MLFLOW-WORKSPACE');
    }
    expect(seen).toEqual([]);
  });

  test.each(['read-only', 'off'] as const)('is nothing to the sidecar’s own API: %s', async proxy => {
    const { port, requests } = await standIn(answered('{}'), { proxy });
    for (const workspace of ['team-a', 'NO!']) {
      const headers = ['Host: localhost', `X-MLflow-Workspace: ${workspace}`];
      expect(
        (await sendBytes(port, bytesOf('POST', '/v1/reload?model_uri=models:/a/1', headers))).status,
      ).toBe(200);
      expect((await sendBytes(port, bytesOf('GET', '/healthz', headers))).status).toBe(200);
    }
    expect(requests).toHaveLength(2);
    for (const { caller } of requests) expect(caller).not.toHaveProperty('workspace');
  });
});

test('what a client of MLflow’s is told is JSON, whatever it would rather read', async () => {
  const { url } = await standIn(new SidecarError('circuit_open', 'Too often.'));
  for (const accept of ['text/plain', 'text/html', 'application/problem+json', '*/*'])
    expect(members(await call(url + GET, { headers: { accept } }))).toMatchObject({ code: 'circuit_open' });
});
