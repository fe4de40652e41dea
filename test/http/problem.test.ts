import { once } from 'node:events';
import { createServer } from 'node:http';
import express from 'express';
import { expect, test } from 'vitest';
import { systemClock } from '../../src/domain/clock.ts';
import { SidecarError } from '../../src/domain/errors.ts';
import { EventBus, type SidecarEvent } from '../../src/domain/events.ts';
import { createHttpApp } from '../../src/http/app.ts';
import { beginCall } from '../../src/http/call.ts';
import { refuse } from '../../src/http/problem.ts';
import { CATALOG, call, depsOf, listening, members, post, problem, SETTINGS, sidecar } from './support.ts';

const REQUEST = { model_uri: 'models:/a/1' };

test('what nobody foresaw is internal, without its message or stack, and the event has both', async () => {
  const { url, events } = await sidecar({
    reload: () => {
      throw new Error('password=hunter2');
    },
  });
  const reply = await post(`${url}/v1/reload`, REQUEST, { 'x-request-id': 'mine' });
  expect(reply.status).toBe(500);
  expect(problem(reply)).toMatchObject({ code: 'internal', status: 500, title: 'Internal Server Error' });
  expect(reply.text).not.toMatch(/hunter2|\.ts:|node_modules/);
  expect(reply.headers.get('x-request-id')).toBe('mine');
  const [event] = events;
  expect(event).toMatchObject({
    type: 'request_refused',
    method: 'POST',
    path: '/v1/reload',
    caller: { requestId: 'mine' },
  });
  expect(event?.type === 'request_refused' && event.error.cause).toEqual(new Error('password=hunter2'));
});

test('the same in text/plain', async () => {
  const catalog = {
    ...CATALOG,
    models: () => {
      throw new Error('password=hunter2');
    },
  };
  const { url } = await sidecar({ catalog });
  const reply = await call(`${url}/v1/models`, { headers: { accept: 'text/plain' } });
  expect(reply.status).toBe(500);
  expect(reply.text).toMatch(/^❌ internal: The sidecar failed in a way that nobody foresaw\.\n {3}\S/);
  expect(reply.text).not.toContain('hunter2');
});

test('a thrown SidecarError keeps its code, message, hint and Retry-After', async () => {
  const { url } = await sidecar({
    reload: () => {
      throw new SidecarError('mlflow_unreachable', 'refused', { hint: 'Start it.', retryAfterS: 7.2 });
    },
  });
  const reply = await post(`${url}/v1/reload`, REQUEST);
  expect(reply.status).toBe(503);
  expect(members(reply)).toEqual({
    type: 'about:blank',
    title: 'Service Unavailable',
    status: 503,
    detail: 'refused',
    code: 'mlflow_unreachable',
    hint: 'Start it.',
  });
  expect(reply.headers.get('retry-after')).toBe('8');
});

test('a Retry-After is at least one second', async () => {
  const { url } = await sidecar({
    reload: () => {
      throw new SidecarError('mlflow_unreachable', 'refused', { retryAfterS: 0 });
    },
  });
  expect((await post(`${url}/v1/reload`, REQUEST)).headers.get('retry-after')).toBe('1');
});

test('a full disk is disk_full', async () => {
  const { url } = await sidecar({
    reload: () => {
      throw Object.assign(new Error('ENOSPC: no space left'), { code: 'ENOSPC' });
    },
  });
  const reply = await post(`${url}/v1/reload`, REQUEST);
  expect([reply.status, problem(reply).code]).toEqual([507, 'disk_full']);
});

test('every refusal is an event, and its path holds no query', async () => {
  const { url, events } = await sidecar();
  await call(`${url}/nowhere?secret=1`);
  await post(`${url}/v1/reload?secret=1`, {});
  await call(`${url}/v1/reload`);
  await call(`${url}/healthz`, { method: 'DELETE' });
  expect(
    events.map(event => event.type === 'request_refused' && [event.method, event.path, event.error.message]),
  ).toEqual([
    ['GET', '/nowhere', 'There is no /nowhere here.'],
    ['POST', '/v1/reload', 'secret: unknown field'],
    ['GET', '/v1/reload', 'GET is not allowed here.'],
    ['DELETE', '/healthz', 'DELETE is not allowed here.'],
  ]);
});

test('an answer that has begun is cut short, so that it is not taken as whole', async () => {
  const events = new EventBus();
  const seen: SidecarEvent[] = [];
  events.subscribe(event => seen.push(event));
  const app = express();
  const deps = { events, clock: systemClock, settings: SETTINGS };
  app.use(beginCall(deps));
  app.get('/half', (_req, res) => {
    res.write('half');
    throw new Error('too late');
  });
  app.use(refuse(deps));
  const port = await listening(createServer(app));
  await expect(call(`http://127.0.0.1:${port}/half`)).rejects.toThrow();
  expect(seen).toHaveLength(1);
});

test('the app is one listener that can be put before any server', async () => {
  const app = createHttpApp(depsOf().deps);
  const server = createServer(app);
  const port = await listening(server);
  expect((await call(`http://127.0.0.1:${port}/healthz`)).status).toBe(200);
  server.close();
  await once(server, 'close');
});
