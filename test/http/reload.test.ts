import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { formatModelUri } from '../../src/domain/model-uri.ts';
import { outcome } from '../support/outcome.ts';
import {
  call,
  faulty,
  form,
  members,
  post,
  problem,
  readAll,
  type Sidecar,
  sidecar,
  uris,
} from './support.ts';

const URI = 'models:/a/Production';
const asked = ({ requests }: Sidecar) => requests.map(request => formatModelUri(request.uri));

describe('which models are reloaded', () => {
  test('model_uri: one outcome, as the reloader gave it', async () => {
    const { url } = await sidecar({ reload: () => outcome() });
    const reply = await post(`${url}/v1/reload`, { model_uri: 'models:/topic-classification/production' });
    expect(reply.status).toBe(200);
    expect(reply.headers.get('content-type')).toBe('application/json; charset=utf-8');
    expect(members(reply)).toEqual(outcome());
  });

  test('model_uris: a list even of one', async () => {
    const target = await sidecar();
    const reply = await post(`${target.url}/v1/reload`, { model_uris: [URI] });
    expect(members(reply)).toEqual({
      status: 'loaded',
      models: [expect.objectContaining({ model_uri: URI })],
      duration_s: expect.any(Number),
    });
  });

  test('model_uris in a form may be repeated and separated by commas; equal ones are answered once', async () => {
    const target = await sidecar();
    await form(
      `${target.url}/v1/reload`,
      `model_uris=${URI}, models:/b@x&model_uris=models:/a/PRODUCTION,models:/c/007`,
    );
    expect(asked(target)).toEqual([URI, 'models:/b@x', 'models:/c/7']);
  });

  test('nothing: every configured one, as a list', async () => {
    const target = await sidecar({ settings: { models: uris(URI, 'models:/b/1') } });
    const reply = await call(`${target.url}/v1/reload`, { method: 'POST' });
    expect(reply.status).toBe(200);
    expect(asked(target)).toEqual([URI, 'models:/b/1']);
    expect(members(reply)['models']).toHaveLength(2);
  });

  test('nothing, and nothing is configured: 400', async () => {
    const { url } = await sidecar();
    const reply = await post(`${url}/v1/reload`, {});
    expect(reply.status).toBe(400);
    expect(faulty(reply)).toEqual(['model_uri']);
    expect(problem(reply).hint).toContain('SIDECAR_MODELS');
  });

  test.each([
    [{ stage: 'production' }, 'models:/a@b c/Production'],
    [{ stage: 'latest' }, 'models:/a@b c/latest'],
    [{ alias: 'champion' }, 'models:/a@b c@champion'],
    [{ version: '007' }, 'models:/a@b c/7'],
    [{ version: 7 }, 'models:/a@b c/7'],
  ])('one model by %j: one outcome', async (ref, expected) => {
    const target = await sidecar();
    const reply = await post(`${target.url}/v1/models/a%40b%20c/reload`, ref);
    expect(reply.status).toBe(200);
    expect(members(reply)).toMatchObject({ model_uri: expected });
  });

  test('one model by a query', async () => {
    const target = await sidecar();
    await call(`${target.url}/v1/models/a/reload?alias=champion`, { method: 'POST' });
    expect(asked(target)).toEqual(['models:/a@champion']);
  });

  test.each([
    { alias: 'a/b' },
    { alias: 'a@b' },
    { alias: '' },
    { stage: 'a/b' },
    { stage: '3' },
    { stage: 'x\n' },
    { version: 'Production' },
    { version: 0 },
    { version: 1.5 },
    { version: '1/2' },
    { stage: 's'.repeat(256) },
    { alias: 7 },
  ])('one model by what is no such thing: %j', async ref => {
    const { url } = await sidecar();
    const reply = await post(`${url}/v1/models/a/reload`, ref);
    expect(reply.status).toBe(400);
    expect(faulty(reply)).toEqual(Object.keys(ref));
  });

  test('one model by its name alone: its configured refs, as a list', async () => {
    const target = await sidecar({ settings: { models: uris(URI, 'models:/b/1', 'models:/a@x') } });
    const reply = await post(`${target.url}/v1/models/a/reload`, {});
    expect(asked(target)).toEqual([URI, 'models:/a@x']);
    expect(members(reply)['models']).toHaveLength(2);
  });

  test('one model by its name alone, and none of it is configured: 400', async () => {
    const { url } = await sidecar({ settings: { models: uris('models:/b/1') } });
    const reply = await post(`${url}/v1/models/a/reload`, {});
    expect(reply.status).toBe(400);
    expect(problem(reply).detail).toBe(
      'stage, alias, version: is not given, and no such model is configured',
    );
  });

  test('several run side by side', async () => {
    let waiting = 0;
    const { promise: allThere, resolve } = Promise.withResolvers<void>();
    const { url } = await sidecar({
      reload: async () => {
        waiting += 1;
        if (waiting === 100) resolve();
        await allThere;
        return outcome();
      },
    });
    const reply = await post(`${url}/v1/reload`, {
      model_uris: Array.from({ length: 100 }, (_, i) => `models:/m/${i + 1}`),
    });
    expect(reply.status).toBe(200);
  });
});

describe('asynchronous mode', () => {
  test.each([
    [{ mode: 'async' }, {}],
    [{ async: true }, {}],
    [{}, { prefer: 'respond-async' }],
    [{}, { prefer: 'handling=lenient, Respond-Async; wait=10' }],
  ])('%j with headers %j', async (fields, headers) => {
    const { url } = await sidecar();
    const reply = await post(`${url}/v1/reload`, { model_uri: URI, ...fields }, headers);
    expect(reply.status).toBe(202);
    expect(members(reply)).toMatchObject({ done: false, status: 'pending' });
  });

  test('mode=sync and other preferences are fine', async () => {
    const { url } = await sidecar();
    const reply = await post(
      `${url}/v1/reload`,
      { model_uri: URI, mode: 'sync', async: false },
      { prefer: 'wait=10' },
    );
    expect(reply.status).toBe(200);
  });
});

describe('what is allowed', () => {
  const allow = ['models:/a/*', 'models:/b@champion'];

  test('every URI that is not is named, and none is reloaded', async () => {
    const { url, requests } = await sidecar({ settings: { allow } });
    const reply = await post(`${url}/v1/reload`, {
      model_uris: [URI, 'models:/c/production', 'models:/b@other'],
    });
    expect(reply.status).toBe(403);
    expect(problem(reply)).toMatchObject({
      code: 'not_allowed',
      detail: 'Not allowed here: models:/c/Production, models:/b@other.',
    });
    expect(problem(reply).hint).toContain('SIDECAR_ALLOW');
    expect(requests).toEqual([]);
  });

  test('what fits a pattern is, on the model’s route too', async () => {
    const { url } = await sidecar({ settings: { allow } });
    expect((await post(`${url}/v1/models/b/reload`, { alias: 'champion' })).status).toBe(200);
    expect((await post(`${url}/v1/models/b/reload`, { version: 1 })).status).toBe(403);
  });
});

test('a caller that goes away cancels nothing', async () => {
  const { promise: mayEnd, resolve: end } = Promise.withResolvers<void>();
  const { promise: started, resolve: start } = Promise.withResolvers<void>();
  const { promise: ended, resolve: done } = Promise.withResolvers<void>();
  const { url } = await sidecar({
    reload: async () => {
      start();
      await mayEnd;
      done();
      return outcome();
    },
  });
  const leave = new AbortController();
  const gone = call(`${url}/v1/reload?model_uri=${URI}`, { method: 'POST', signal: leave.signal });
  await started;
  leave.abort();
  await expect(gone).rejects.toThrow();
  end();
  await ended;
  expect((await call(`${url}/healthz`)).status).toBe(200);
});

test('the time that a body takes counts against the deadline', async () => {
  const { port, requests, server } = await sidecar();
  const arrived = once(server, 'request');
  const socket = connect(port, '127.0.0.1');
  const before = performance.now();
  const body = JSON.stringify({ model_uri: URI, deadline_s: 5 });
  const head = `POST /v1/reload HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n`;
  socket.write(head + body.slice(0, 5));
  await arrived;
  await sleep(300);
  const written = performance.now();
  socket.end(body.slice(5));
  await readAll(socket);
  expect(requests).toHaveLength(1);
  expect(requests[0]?.startedAt).toBeGreaterThanOrEqual(before);
  expect(requests[0]?.startedAt).toBeLessThan(written - 200);
});
