import { once } from 'node:events';
import type { RequestListener, ServerResponse } from 'node:http';
import { connect, type Socket } from 'node:net';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { ProxyMode } from '../../src/config/options.ts';
import { EventBus, type SidecarEvent } from '../../src/domain/events.ts';
import { createHttpServer } from '../../src/http/server.ts';
import { atMost } from '../support/limits.ts';
import {
  bytesOf,
  CATALOG,
  call,
  listening,
  members,
  post,
  problem,
  readAll,
  replyOf,
  sendBytes,
  sidecar,
} from './support.ts';

const REQUEST = { model_uri: 'models:/a/1' };

/** A server that lets POSTs wait until `answer` is called, and does nothing else that costs time. */
async function holding(proxy: ProxyMode = 'off') {
  const held: ServerResponse[] = [];
  const events: SidecarEvent[] = [];
  const bus = new EventBus();
  bus.subscribe(event => events.push(event));
  const app: RequestListener = (req, res) => {
    if (req.method === 'POST') held.push(res);
    else res.end('ok');
  };
  const port = await listening(createHttpServer(app, bus, { proxy }));
  const answer = () => {
    for (const res of held.splice(0)) res.end('ok');
  };
  return { url: `http://127.0.0.1:${port}`, port, held, events, answer };
}

async function opened(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  onTestFinished(() => void socket.destroy());
  await once(socket, 'connect');
  return socket;
}

/** Not all at once, for which no system has room. */
async function openedMany(port: number, count: number): Promise<Socket[]> {
  const sockets: Socket[] = [];
  while (sockets.length < count) {
    sockets.push(...(await Promise.all(Array.from({ length: 100 }, () => opened(port)))));
  }
  return sockets;
}

describe('1,000 calls under way', () => {
  /** Five on each connection, which may be sent at once. */
  async function full(proxy?: ProxyMode) {
    const running = await holding(proxy);
    const sockets = await openedMany(running.port, 200);
    const bytes = bytesOf('POST', '/v1/reload').replace('Connection: close\r\n', '');
    for (const socket of sockets) socket.write(bytes.repeat(5));
    await expect.poll(() => running.held.length).toBe(1_000);
    return { ...running, sockets };
  }

  test('let no other in, which is told so at once, with all that an error carries', async () => {
    const { url, held, events } = await full();
    const reply = await post(`${url}/v1/reload`, REQUEST, { 'x-request-id': 'mine' });
    expect(reply.status).toBe(503);
    expect(problem(reply)).toMatchObject({
      code: 'overloaded',
      status: 503,
      title: 'Service Unavailable',
      detail: 'So many calls are under way that no other is taken in.',
    });
    expect(problem(reply).hint).not.toBeNull();
    expect(Object.fromEntries(reply.headers)).toMatchObject({
      'content-type': 'application/problem+json',
      'retry-after': '5',
      'x-request-id': 'mine',
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
    });
    expect(held).toHaveLength(1_000);
    await expect.poll(() => events).toMatchObject([{ type: 'requests_shed', count: 1 }]);
  });

  test('let in another for each that is answered', async () => {
    const { url, sockets, answer } = await full();
    expect((await call(`${url}/v1/models`)).status).toBe(503);
    for (const socket of sockets) socket.resume();
    answer();
    await expect.poll(async () => (await call(`${url}/v1/models`)).status).toBe(200);
  });

  test('and callers that leave make room', async () => {
    const { url, sockets } = await full();
    for (const socket of sockets) socket.destroy();
    await expect.poll(async () => (await call(`${url}/v1/models`)).status).toBe(200);
  });

  test('leave the probes answered', async () => {
    const { url } = await full();
    expect((await call(`${url}/healthz`)).status).toBe(200);
    expect((await call(`${url}/readyz?verbose`)).status).toBe(200);
  });

  test('are told of in text/plain to who wants that', async () => {
    const { url } = await full();
    const reply = await post(`${url}/v1/reload`, REQUEST, { accept: 'text/plain' });
    expect(reply.headers.get('content-type')).toBe('text/plain; charset=utf-8');
    expect(reply.text).toMatch(
      /^❌ overloaded: So many calls are under way that no other is taken in\.\n {3}\S/,
    );
  });

  test.each([
    ['GET', '/api/2.0/mlflow/registered-models/get?name=a'],
    ['POST', '/api/2.0/mlflow/registered-models/get-latest-versions'],
    ['GET', '/health'],
    ['GET', '/version?x'],
  ])('are told of to MLflow’s clients so that none comes back by itself: %s %s', async (method, path) => {
    const { url, port } = await full('read-only');
    const reply = await sendBytes(port, bytesOf(method, path, ['Host: localhost', 'Accept: text/plain']));
    expect(reply.status).toBe(424);
    expect(reply.headers.get('retry-after')).toBeNull();
    expect(reply.headers.get('content-type')).toBe('application/json');
    expect(Number(reply.headers.get('content-length'))).toBe(Buffer.byteLength(reply.text));
    expect(members(reply)).toMatchObject({
      error_code: 'TEMPORARILY_UNAVAILABLE',
      message: expect.stringContaining('So many calls are under way that no other is taken in.'),
      code: 'overloaded',
    });
    expect((await call(`${url}/v1/models`)).status).toBe(503);
    expect((await call(`${url}/healthy`)).status).toBe(503);
  });

  test('are told of in the usual way where the sidecar does not stand in for MLflow', async () => {
    const { url } = await full('off');
    const reply = await call(`${url}/api/2.0/mlflow/registered-models/get?name=a`);
    expect(reply.status).toBe(503);
    expect(problem(reply).code).toBe('overloaded');
  });

  test('are told of before the body has come, and the connection goes on', async () => {
    const { port } = await full();
    const socket = await opened(port);
    const head = 'POST /v1/reload HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n';
    socket.write(`${head}Content-Length: 27\r\n\r\n`);
    const [first] = await once(socket, 'data');
    expect(replyOf(String(first)).status).toBe(503);
    socket.write(`{"model_uri":"models:/a/1"}${bytesOf('GET', '/healthz')}`);
    expect(replyOf(await readAll(socket)).status).toBe(200);
  });

  test('are one event, however many are refused', async () => {
    const { url, events } = await full();
    await Promise.all(Array.from({ length: 50 }, () => post(`${url}/v1/reload`, REQUEST)));
    await expect.poll(() => events.length).toBe(1);
    expect(events[0]?.type === 'requests_shed' && events[0].count).toBeGreaterThan(0);
  });
});

describe('connections', () => {
  test('beyond 1,000 are answered and closed, beyond 2,000 closed; the probes are answered', async () => {
    const { port, url } = await sidecar();
    const early = await openedMany(port, 1_000);
    const late = await opened(port);
    late.write(bytesOf('GET', '/v1/models').replace('Connection: close\r\n', ''));
    const refused = replyOf(await readAll(late));
    expect(refused.status).toBe(503);
    expect(refused.headers.get('connection')).toBe('close');
    expect(problem(refused)).toMatchObject({ code: 'overloaded', detail: 'Too many connections are open.' });
    expect((await call(`${url}/healthz`)).status).toBe(200);
    const served = early[0]?.write(bytesOf('GET', '/v1/models'));
    expect(served).toBe(true);
    expect(early[0] === undefined ? 0 : replyOf(await readAll(early[0])).status).toBe(200);
    await openedMany(port, 1_000);
    const dropped = connect(port, '127.0.0.1');
    dropped.on('error', () => undefined).resume();
    await once(dropped, 'close');
  });

  test('that send nothing are closed', async () => {
    const { port, server } = await sidecar();
    server.headersTimeout = 200;
    const silent = await opened(port);
    const startedAt = performance.now();
    silent.resume();
    await once(silent, 'close');
    expect(performance.now() - startedAt).toBeLessThan(atMost(5_000));
  });

  test('that are idle after an answer are closed', async () => {
    const { port, server } = await sidecar();
    expect(server.keepAliveTimeout).toBe(5_000);
    server.keepAliveTimeout = 100;
    const idle = await opened(port);
    idle.write(bytesOf('GET', '/healthz').replace('Connection: close\r\n', ''));
    idle.resume();
    await once(idle, 'close');
  });
});

describe('a client that does not read', () => {
  const BIG = 'x'.repeat(8 * 1024 * 1024);
  /** Sent as a whole; the list of all is not. */
  const model = () => ({ name: BIG, refs: [] });

  test('gets eight answers made at a time, and the rest refused', async () => {
    let made = 0;
    const catalog = {
      ...CATALOG,
      models: () => {
        made += 1;
        return [];
      },
    };
    const { port } = await sidecar({ catalog });
    const socket = await opened(port);
    const one = bytesOf('GET', '/v1/models').replace('Connection: close\r\n', '');
    socket.write(one.repeat(200));
    const text = await readAll(socket);
    expect(made).toBe(8);
    expect(text.match(/HTTP\/1\.1 200/g)).toHaveLength(8);
    expect(text.match(/HTTP\/1\.1 503/g)).toHaveLength(1);
  });

  test('cannot fill the memory together with others', async () => {
    const { port, url, events } = await sidecar({ catalog: { ...CATALOG, model } });
    const lazy = await Promise.all(Array.from({ length: 20 }, () => opened(port)));
    for (const socket of lazy) socket.pause().write(bytesOf('GET', '/v1/models/big'));
    await expect.poll(() => events.length).toBeGreaterThan(0);
    const refused = await call(`${url}/v1/models/big`);
    expect(problem(refused).detail).toBe('Too many answers wait for clients that do not read them.');
    expect((await call(`${url}/healthz`)).status).toBe(200);
    for (const socket of lazy) socket.destroy();
    await expect.poll(async () => (await call(`${url}/v1/models/big`)).status).toBe(200);
  });
});
