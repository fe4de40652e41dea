import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { atMost } from '../support/limits.ts';
import { bytesOf, members, problem, readAll, replyOf, sendBytes, sidecar } from './support.ts';

const RELOAD = '/v1/reload?model_uri=models:/a/1';

describe('request targets', () => {
  test.each(['//evil.example/v1/reload', '//evil.example', '/\\evil.example', '/v1//reload'])(
    '%s is a path that is not there',
    async target => {
      const { port, requests } = await sidecar();
      const reply = await sendBytes(port, bytesOf('POST', `${target}?model_uri=models:/a/1`));
      expect(reply.status).toBe(404);
      expect(problem(reply).code).toBe('not_found');
      expect(requests).toEqual([]);
    },
  );

  test.each([
    `//${RELOAD}`,
    `http://evil.example${RELOAD}`,
    `HTTP://user:x@evil.example:99999${RELOAD}`,
    `http://${RELOAD}`,
  ])('of %s only the path counts', async target => {
    const { port, requests } = await sidecar();
    const reply = await sendBytes(port, bytesOf('POST', target));
    expect(reply.status).toBe(200);
    expect(members(reply)).toMatchObject({ model_uri: 'models:/a/1' });
    expect(requests).toHaveLength(1);
    expect(reply.text).not.toContain('evil');
  });

  test.each(['http://evil.example', 'http://[', 'http://evil.example?x=1', '*'])(
    '%s has no path of ours',
    async target => {
      const { port } = await sidecar();
      const reply = await sendBytes(port, bytesOf(target === '*' ? 'OPTIONS' : 'GET', target));
      expect([400, 404]).toContain(reply.status);
      expect(problem(reply).detail).not.toBe('');
      expect(reply.headers.get('x-request-id')).not.toBeNull();
    },
  );

  test.each(['/v1/../v1/status', '/v1/models/../status', '/./healthz'])(
    '%s is not resolved',
    async target => {
      const { port } = await sidecar();
      expect((await sendBytes(port, bytesOf('GET', target))).status).toBe(404);
    },
  );
});

describe('what is not HTTP', () => {
  const BROKEN = [
    'nonsense\r\n\r\n',
    'GET / HTTP/9.9\r\n\r\n',
    'POST /v1/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n',
    'POST /v1/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n',
    'GET /v1/models HTTP/1.1\r\nHost: localhost\r\nX-Airflow-Dag-Id: a\u0000b\r\n\r\n',
    'GET /v1/models/a\r\nX: y HTTP/1.1\r\nHost: localhost\r\n\r\n',
  ];
  test.each(BROKEN)('%j is refused with invalid_request and a request id', async bytes => {
    const { port } = await sidecar();
    const reply = await sendBytes(port, bytes);
    expect(reply.status).toBe(400);
    expect(problem(reply)).toMatchObject({ code: 'invalid_request', status: 400 });
    expect(reply.headers.get('x-request-id')).not.toBeNull();
  });

  test('headers of more than 16 KiB are refused with too_large', async () => {
    const { port } = await sidecar();
    const reply = await sendBytes(
      port,
      bytesOf('GET', '/v1/models', ['Host: localhost', `X-Long: ${'x'.repeat(20_000)}`]),
    );
    expect(reply.status).toBe(413);
    expect(problem(reply).code).toBe('too_large');
  });
});

test('a body that ends early takes nothing down', async () => {
  const { port, requests, events } = await sidecar();
  const head =
    'POST /v1/reload HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{';
  const socket = connect(port, '127.0.0.1');
  socket.end(head);
  await readAll(socket);
  expect(requests).toEqual([]);
  expect(events).toMatchObject([{ type: 'request_refused', error: { code: 'invalid_request' } }]);
  expect((await sendBytes(port, bytesOf('GET', '/healthz'))).status).toBe(200);
});

/** What came until the connection was closed, in whatever way. */
async function untilClosed(socket: Socket): Promise<string> {
  const chunks: Buffer[] = [];
  const { promise, resolve } = Promise.withResolvers<void>();
  socket.on('data', chunk => chunks.push(Buffer.from(chunk))).on('error', () => {});
  socket.once('close', () => resolve());
  await promise;
  return Buffer.concat(chunks).toString('utf8');
}

test('a client that trickles its body is answered when the request’s time is over', async () => {
  const { port, server, requests } = await sidecar();
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  onTestFinished(() => void vi.useRealTimers());
  const socket = connect(port, '127.0.0.1');
  const answered = untilClosed(socket);
  const arrived = once(server, 'request');
  socket.write(
    'POST /v1/reload HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n',
  );
  const trickle = setInterval(() => socket.write(' '), 50);
  onTestFinished(() => clearInterval(trickle));
  await arrived;
  await vi.advanceTimersByTimeAsync(29_900);
  expect(socket.bytesRead).toBe(0);
  await vi.advanceTimersByTimeAsync(200);
  const startedAt = performance.now();
  const answer = await answered;
  expect(performance.now() - startedAt).toBeLessThan(atMost(3_000));
  expect(replyOf(answer).status).toBe(400);
  expect(problem(replyOf(answer)).detail).toBe('The request did not arrive in time.');
  expect(requests).toEqual([]);
});

test.each([
  ['GET', '/healthz', 200],
  ['POST', '/v1/nothing', 404],
  ['GET', '/v1/reload', 405],
])('a body that trickles after the answer holds no connection: %s %s', async (method, target, status) => {
  const { port } = await sidecar();
  const socket = connect(port, '127.0.0.1');
  socket.write(`${method} ${target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n`);
  const trickle = setInterval(() => socket.write(' '), 50);
  onTestFinished(() => clearInterval(trickle));
  const startedAt = performance.now();
  const answer = await untilClosed(socket);
  expect(performance.now() - startedAt).toBeLessThan(atMost(3_000));
  expect(replyOf(answer).status).toBe(status);
});

test('whoever sends a long body that nobody reads gets its answer, and the connection goes on', async () => {
  const { port } = await sidecar();
  const socket = connect(port, '127.0.0.1');
  const body = Buffer.alloc(16 * 1024 * 1024);
  socket.write(`POST /v1/nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${body.length}\r\n\r\n`);
  const sent = new Promise(resolve => socket.write(body, resolve));
  const [answer] = await once(socket, 'data');
  expect(replyOf(String(answer)).status).toBe(404);
  await sent;
  socket.write(bytesOf('GET', '/healthz'));
  expect(replyOf(await readAll(socket)).status).toBe(200);
});

test('a body that trickles is waited for until the deadline, where the query names one', async () => {
  const { port, requests } = await sidecar();
  const socket = connect(port, '127.0.0.1');
  socket.write(
    'POST /v1/reload?deadline_s=0.3 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n',
  );
  const startedAt = performance.now();
  const [answer] = await once(socket, 'data');
  socket.destroy();
  expect(performance.now() - startedAt).toBeLessThan(atMost(3_000));
  expect(replyOf(String(answer)).status).toBe(400);
  expect(problem(replyOf(String(answer))).detail).toBe('body: did not arrive within deadline_s');
  expect(requests).toEqual([]);
});

test('the limits are those that a server on the same machine needs', async () => {
  const { server } = await sidecar();
  expect([server.headersTimeout, server.requestTimeout]).toEqual([10_000, 0]);
});

test('an Expect that is not understood is ignored', async () => {
  const { port } = await sidecar();
  const reply = await sendBytes(port, bytesOf('POST', RELOAD, ['Host: localhost', 'Expect: the-unexpected']));
  expect(reply.status).toBe(200);
});

test('a body that is announced with 100-continue is read', async () => {
  const { port, requests } = await sidecar();
  const headers = ['Host: localhost', 'Content-Type: application/json', 'Expect: 100-continue'];
  await sendBytes(port, bytesOf('POST', '/v1/reload', headers, '{"model_uri":"models:/a/1"}'));
  expect(requests).toHaveLength(1);
});

test('an HTTP/1.0 client that names a host is answered', async () => {
  const { port } = await sidecar();
  expect((await sendBytes(port, 'GET /v1/models HTTP/1.0\r\nHost: localhost\r\n\r\n')).status).toBe(200);
});
