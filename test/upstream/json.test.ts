import { createServer } from 'node:http';
import { gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { readJson } from '../../src/upstream/json.ts';
import { atMost } from '../support/limits.ts';
import { type Answer, call, clientFor, listen, serve } from './support.ts';

const MAX_BYTES = 4 * 1024 * 1024;

async function read(url: string, maxBytes = MAX_BYTES, signal = call().signal) {
  const client = await clientFor({ trusted: [url] });
  const response = await client.send('MLflow', { url: new URL(url), method: 'GET' }, { ...call(), signal });
  return await readJson('MLflow', response, { maxBytes, code: 'too_large', wanted: 'all' }, signal);
}

async function answered(answer: Answer, maxBytes = MAX_BYTES) {
  const { url } = await serve(() => answer);
  return await read(url, maxBytes);
}

describe('an answer is', () => {
  test('a success with an object', async () => {
    await expect(answered({ body: { a: 1 } })).resolves.toEqual({
      status: 200,
      body: { a: 1 },
      text: '{"a":1}',
      message: null,
    });
  });

  test.each([400, 404])('a %d in MLflow’s own shape', async status => {
    const body = { error_code: 'RESOURCE_DOES_NOT_EXIST', message: 'no' };
    await expect(answered({ status, body })).resolves.toEqual({
      status,
      body,
      text: JSON.stringify(body),
      message: 'no',
    });
  });

  test('as large as allowed', async () => {
    const body = `{"a":"${'x'.repeat(992)}"}`;
    await expect(answered({ body }, 1_000)).resolves.toMatchObject({ status: 200 });
    await expect(answered({ body }, 999)).rejects.toMatchObject({ code: 'too_large' });
  });
});

describe('what is no answer of MLflow’s has its code and says what it was', () => {
  const PAGE = '<!doctype html>\n<title>Sign in</title>';
  const HTML = { 'content-type': 'text/html' };

  test.each<[string, Answer, string, RegExp]>([
    [
      'a page with 200',
      { headers: HTML, body: PAGE },
      'mlflow_error',
      /not MLflow's JSON: "<!doctype html> <title>/,
    ],
    [
      'a page with 404',
      { status: 404, headers: HTML, body: PAGE },
      'mlflow_error',
      /HTTP 404.*not MLflow's JSON/,
    ],
    [
      'a 404 in another shape',
      { status: 404, body: { detail: 'Not Found' } },
      'mlflow_error',
      /not MLflow's JSON/,
    ],
    ['nothing with 200', { body: '' }, 'mlflow_error', /not MLflow's JSON/],
    ['nothing with 204', { status: 204, body: '' }, 'mlflow_error', /not MLflow's JSON/],
    ['JSON that ends early', { body: '{"model_versions": [' }, 'mlflow_error', /not MLflow's JSON/],
    ['a list', { body: [] }, 'mlflow_error', /not MLflow's JSON/],
    ['null', { body: 'null' }, 'mlflow_error', /not MLflow's JSON/],
    [
      '500 in MLflow’s shape',
      { status: 500, body: { error_code: 'INTERNAL_ERROR', message: 'db' } },
      'mlflow_error',
      /HTTP 500 \(db\)/,
    ],
    [
      '503 with words',
      { status: 503, body: 'down for maintenance' },
      'mlflow_error',
      /HTTP 503 \(down for maintenance\)/,
    ],
    ['429', { status: 429, body: '' }, 'mlflow_error', /HTTP 429\./],
    ['408', { status: 408, body: '' }, 'mlflow_timeout', /HTTP 408/],
    ['401', { status: 401, body: 'Unauthorized' }, 'access_denied', /refused with HTTP 401 \(Unauthorized\)/],
    [
      '403 in MLflow’s shape',
      { status: 403, body: { error_code: 'PERMISSION_DENIED', message: 'no' } },
      'access_denied',
      /403 \(no\)/,
    ],
    [
      'a redirect',
      { status: 302, headers: { location: '/login' } },
      'mlflow_error',
      /redirected \(HTTP 302\)/,
    ],
    [
      'a redirect with a page',
      { status: 307, headers: HTML, body: PAGE },
      'mlflow_error',
      /redirected \(HTTP 307\)/,
    ],
  ])('%s', async (_, answer, code, message) => {
    await expect(answered(answer)).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
  });

  test.each([
    [200, true],
    [204, true],
    [400, false],
    [404, false],
  ])('a %d that is not MLflow’s speaks against the server: %s', async (status, serverFault) => {
    const body = status === 204 ? '' : PAGE;
    await expect(answered({ status, headers: HTML, body })).rejects.toMatchObject({ serverFault });
  });

  test('the refusal of a Host names --allowed-hosts', async () => {
    const body = 'Invalid Host header - possible DNS rebinding attack detected';
    await expect(answered({ status: 403, body })).rejects.toMatchObject({
      code: 'access_denied',
      hint: expect.stringContaining('--allowed-hosts'),
    });
  });

  test('another refusal names the credential’s variables', async () => {
    await expect(answered({ status: 403, body: 'no' })).rejects.toMatchObject({
      hint: expect.stringContaining('MLFLOW_TRACKING_TOKEN'),
    });
  });

  test('Retry-After is passed on', async () => {
    const answer = { status: 503, headers: { 'retry-after': '7' }, body: '' };
    await expect(answered(answer)).rejects.toMatchObject({ retryAfterS: 7 });
  });

  test('gzip, which was not asked for', async () => {
    const answer = { headers: { 'content-encoding': 'gzip' }, body: gzipSync('{"a":1}') };
    await expect(answered(answer)).rejects.toMatchObject({
      code: 'mlflow_error',
      message: /compressed \(gzip\)/,
    });
  });

  test('10 MB of JSON, which are not read to their end', async () => {
    let sent = 0;
    const server = createServer((_, res) => {
      const chunk = Buffer.alloc(64 * 1024, ' ');
      const more = () => {
        while (!res.destroyed && sent < 10_000_000) {
          sent += chunk.length;
          if (!res.write(chunk)) {
            res.once('drain', more);
            return;
          }
        }
        res.end('{}');
      };
      more();
    });
    const url = await listen(server);
    await expect(read(url, 100_000)).rejects.toMatchObject({
      code: 'too_large',
      message: /larger than 100000 bytes/,
    });
    expect(sent).toBeLessThan(10_000_000);
  });

  test('a message of MLflow’s own is cut where it is very long', async () => {
    const body = { error_code: 'INTERNAL_ERROR', message: 'x'.repeat(10_000) };
    const fault = await answered({ status: 500, body }).catch(error => error);
    expect(fault.message.length).toBeLessThan(400);
  });
});

test('a body that breaks off is mlflow_unreachable', async () => {
  const server = createServer((_, res) => {
    res.writeHead(200, { 'content-length': '100' });
    res.write('{"a":');
    setTimeout(() => res.destroy(), 10);
  });
  await expect(read(await listen(server))).rejects.toMatchObject({ code: 'mlflow_unreachable' });
});

test('a body that stalls ends with the signal, with its reason', async () => {
  const server = createServer((_, res) => {
    res.writeHead(200, { 'content-length': '100' });
    res.write('{"a":');
  });
  const url = await listen(server);
  const startedAt = performance.now();
  const signal = AbortSignal.timeout(50);
  const thrown: unknown = await read(url, MAX_BYTES, signal).catch(error => error);
  expect(thrown).toBe(signal.reason);
  expect(performance.now() - startedAt).toBeLessThan(atMost(1_000));
});
