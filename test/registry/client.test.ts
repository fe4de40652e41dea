import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test, vi } from 'vitest';
import { atMost } from '../support/limits.ts';
import { call, serve } from '../upstream/support.ts';
import { asking, registered, scripted } from './support.ts';

const QUESTION = { path: 'model-versions/get', query: { name: 'a b&c', version: '1' } };

function triesOf(events: Awaited<ReturnType<typeof asking>>['events']) {
  return events.flatMap(event => (event.type === 'try_failed' ? [event] : []));
}

test('a question is asked below the server’s path prefix, with its query encoded', async () => {
  const upstream = await serve(() => ({ body: { model_version: registered() } }));
  const { client } = await asking(`${upstream.url}/mlflow`);
  await client.ask(QUESTION, call());
  expect(upstream.asked[0]).toMatchObject({
    method: 'GET',
    url: '/mlflow/api/2.0/mlflow/model-versions/get?name=a+b%26c&version=1',
  });
});

test('a question with a body is a POST of JSON', async () => {
  const upstream = await serve(() => ({}));
  const { client } = await asking(upstream.url);
  await client.ask({ path: 'x', body: { name: 'ü' } }, call());
  expect(upstream.asked[0]).toMatchObject({ method: 'POST', body: '{"name":"ü"}' });
  expect(upstream.asked[0]?.headers['content-type']).toBe('application/json');
});

describe.each([
  ['refused', { kind: 'refused' }, 'mlflow_unreachable'],
  ['reset', { kind: 'reset' }, 'mlflow_unreachable'],
  ['503', { kind: 'status', status: 503 }, 'mlflow_error'],
  ['429', { kind: 'status', status: 429 }, 'mlflow_error'],
  ['408', { kind: 'status', status: 408 }, 'mlflow_timeout'],
  ['a page', { kind: 'html' }, 'mlflow_error'],
  ['broken JSON', { kind: 'broken_json' }, 'mlflow_error'],
  ['a body cut short', { kind: 'cut', contentLength: true }, 'mlflow_unreachable'],
  ['silence', { kind: 'silent' }, 'mlflow_timeout'],
  ['a byte a second of headers', { kind: 'trickle', part: 'headers' }, 'mlflow_timeout'],
  ['a byte a second of body', { kind: 'trickle', part: 'body' }, 'mlflow_timeout'],
  ['half a body', { kind: 'stall' }, 'mlflow_timeout'],
  ['401', { kind: 'status', status: 401 }, 'access_denied'],
  ['a redirect', { kind: 'redirect', origin: 'http://127.0.0.1:1' }, 'mlflow_error'],
] as const)('%s', (_, fault, code) => {
  test(`is ${code} within the try’s time, is told, and leaves no connection`, async () => {
    const upstream = await scripted();
    upstream.addVersion({ name: 'churn', files: { MLmodel: 'x' } });
    await upstream.setFault('registry', fault);
    const { client, events } = await asking(upstream.url, {
      // What answers has time to.
      tryTimeoutMs: code === 'mlflow_timeout' ? 150 : 10_000,
    });
    const onTryFailed = vi.fn();
    const startedAt = performance.now();
    const asked = client.ask(
      { path: 'model-versions/get', query: { name: 'churn', version: '1' } },
      { ...call(), onTryFailed },
    );
    await expect(asked).rejects.toMatchObject({ code });
    expect(performance.now() - startedAt).toBeLessThan(atMost(1_000));
    expect(onTryFailed).toHaveBeenCalledTimes(1);
    expect(triesOf(events)).toMatchObject([
      { what: 'model-versions/get', attempt: 1, retryInMs: null, error: { code } },
    ]);
    for (let n = 0; n < 400 && upstream.connections > 0; n++) await sleep(25);
    expect(upstream.connections).toBe(0);
  });
});

test('a failure names the server and says what it was', async () => {
  const { client } = await asking('http://127.0.0.1:1');
  await expect(client.ask(QUESTION, call())).rejects.toMatchObject({
    message: 'MLflow at http://127.0.0.1:1: connection refused.',
    hint: expect.stringContaining('MLFLOW_TRACKING_URI'),
  });
});

test('the second try comes after 2 to 4 s and succeeds', async () => {
  const upstream = await scripted();
  upstream.addVersion({ name: 'churn', files: { MLmodel: 'x' } });
  await upstream.setFault('registry', { kind: 'status', status: 503 }, { first: 1 });
  const { client, events } = await asking(upstream.url, { attempts: 3 });
  const attempts: number[] = [];
  const onAnswered = vi.fn();
  const startedAt = performance.now();
  const question = { path: 'model-versions/get', query: { name: 'churn', version: '1' } };
  const answer = await client.ask(question, {
    ...call(),
    onTry: attempt => attempts.push(attempt),
    onAnswered,
  });
  const elapsedMs = performance.now() - startedAt;
  expect(answer.status).toBe(200);
  expect(attempts).toEqual([1, 2]);
  expect(onAnswered).toHaveBeenCalledTimes(1);
  expect(elapsedMs).toBeGreaterThan(1_990);
  expect(elapsedMs).toBeLessThan(atMost(4_500));
  const told = triesOf(events)[0]?.retryInMs ?? 0;
  expect(told).toBeGreaterThanOrEqual(2_000);
  expect(told).toBeLessThanOrEqual(4_000);
});

describe('what is definite is not tried again', () => {
  test.each([400, 404])('%d in MLflow’s shape is an answer', async status => {
    const upstream = await serve(() => ({ status, body: { error_code: 'X', message: 'no' } }));
    const { client } = await asking(upstream.url, { attempts: 3 });
    await expect(client.ask(QUESTION, call())).resolves.toMatchObject({ status });
    expect(upstream.asked).toHaveLength(1);
  });

  test.each([401, 403])('%d is access_denied', async status => {
    const upstream = await serve(() => ({ status, body: 'no' }));
    const { client } = await asking(upstream.url, { attempts: 3 });
    await expect(client.ask(QUESTION, call())).rejects.toMatchObject({ code: 'access_denied' });
    expect(upstream.asked).toHaveLength(1);
  });
});

test('an abort ends a question at once, also between two tries', async () => {
  const upstream = await serve(() => ({ status: 503 }));
  const { client } = await asking(upstream.url, { attempts: 3 });
  const controller = new AbortController();
  const asked = client.ask(QUESTION, { ...call(), signal: controller.signal });
  const startedAt = performance.now();
  setTimeout(() => controller.abort(new Error('the process stops')), 100);
  await expect(asked).rejects.toThrow('the process stops');
  expect(performance.now() - startedAt).toBeLessThan(atMost(500));
  expect(upstream.asked).toHaveLength(1);
});
