import { createHash } from 'node:crypto';
import { PassThrough, Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test, vi } from 'vitest';
import { systemClock } from '../../src/domain/clock.ts';
import { freePort } from '../support/free-port.ts';
import { atMost } from '../support/limits.ts';
import {
  answerWithin,
  bodyOf,
  FIRST_BYTE_MS,
  IDLE_MS,
  IMPATIENT,
  relayed,
  relayedRaw,
  relayTo,
  saying,
  textOf,
} from './relay-support.ts';

const MIB = 1024 * 1024;
/** What lies between the two ends: both systems' buffers for a connection, and ours. */
const MOST_BETWEEN = 16 * MIB;

describe('a request reaches MLflow', () => {
  test('with its method, path, query, body and length', async () => {
    const { send, asked } = await relayed(async (req, res) => void res.end(await bodyOf(req)));
    const headers = { 'content-length': '7', 'content-type': 'text/x' };
    const answer = await send(
      { method: 'PATCH', headers, body: Readable.from([Buffer.from('one'), Buffer.from('-two')]) },
      '/api/2.0/mlflow/a%2Fb?c=%20d&c=e',
    );
    expect(await textOf(answer)).toBe('one-two');
    expect(asked).toMatchObject([{ method: 'PATCH', url: '/api/2.0/mlflow/a%2Fb?c=%20d&c=e' }]);
    expect(asked[0]?.headers).toMatchObject({ ...headers, 'accept-encoding': 'identity' });
    expect(asked[0]?.headers).not.toHaveProperty('transfer-encoding');
  });

  test.each(['POST', 'DELETE', 'PUT', 'GET'])(
    'in chunks where the caller named no length: %s',
    async method => {
      const { send, asked } = await relayed(async (req, res) => void res.end(await bodyOf(req)));
      const answer = await send({ method, headers: {}, body: Readable.from([Buffer.from('abc')]) });
      expect(await textOf(answer)).toBe('abc');
      expect(asked[0]?.headers['content-length']).toBeUndefined();
    },
  );

  test('with its own host, and without what came by the way', async () => {
    const { send, asked, url } = await relayed((_, res) => void res.end('x'));
    const headers = { host: 'sidecar', cookie: 'a=b', origin: 'http://o', expect: '100-continue', te: 'x' };
    await send({ headers: { ...headers, 'x-mlflow-workspace': 'team', connection: 'x-hop', 'x-hop': 'x' } });
    expect(asked[0]?.headers).toEqual({
      host: new URL(url).host,
      connection: 'close',
      'accept-encoding': 'identity',
      'x-mlflow-workspace': 'team',
    });
  });

  test('with the caller’s own credential or none, whatever its headers hold', async () => {
    const { send, asked } = await relayed((_, res) => void res.end('x'));
    await send({ headers: { authorization: 'Bearer sidecar' } });
    await send({ headers: { authorization: 'Bearer sidecar' }, authorization: 'Bearer mine' });
    expect(asked.map(({ headers }) => headers.authorization)).toEqual([undefined, 'Bearer mine']);
  });

  test('on a connection of its own', async () => {
    const { send, connections } = await relayed((_, res) => void res.end('x'));
    for (const _ of [1, 2, 3]) await textOf(await send());
    expect(connections()).toBe(3);
  });

  test('with an empty body as one that is empty', async () => {
    const { send, asked } = await relayed(async (req, res) => void res.end(`<${await bodyOf(req)}>`));
    for (const body of [null, Readable.from([])])
      expect(await textOf(await send({ method: 'POST', body }))).toBe('<>');
    expect(asked.map(({ headers }) => headers['content-length'])).toEqual(['0', '0']);
  });

  test('never, where it cannot be sent', async () => {
    const { send, asked, breaker } = await relayed((_, res) => void res.end('x'));
    await expect(send({ headers: { 'x-a': 'b\nc' } })).rejects.toMatchObject({ code: 'invalid_request' });
    expect([asked, breaker.failures]).toEqual([[], 0]);
  });
});

describe('an answer reaches the caller', () => {
  test('with its status, headers, length and bytes', async () => {
    const { send } = await relayed((_, res) => {
      res
        .setHeader('set-cookie', ['a=b', 'c=d'])
        .setHeader('location', '/elsewhere')
        .setHeader('etag', '"x"');
      res.writeHead(201, { 'content-length': 5, 'content-type': 'text/x' }).end('hello');
    });
    const answer = await send();
    expect(answer).toMatchObject({ status: 201, length: 5 });
    expect(answer.headers).toEqual({ 'content-length': '5', 'content-type': 'text/x', etag: '"x"' });
    expect(await textOf(answer)).toBe('hello');
  });

  test.each([400, 401, 403, 404, 405, 409, 412, 413, 416, 422, 424, 501])('of %d as it is', async status => {
    const { send } = await relayed((_, res) => void res.writeHead(status).end('{"error_code":"X"}'));
    const answer = await send({ method: 'POST' });
    expect([answer.status, answer.length, await textOf(answer)]).toEqual([
      status,
      null,
      '{"error_code":"X"}',
    ]);
  });

  test.each([
    ['HEAD', 200, { 'content-length': '1000000' }, 1_000_000],
    ['HEAD', 200, {}, null],
    ['GET', 204, {}, null],
    ['GET', 304, { etag: '"x"' }, null],
  ])('without a body where there can be none: %s, %d, %o', async (method, status, headers, length) => {
    const { send } = await relayed((_, res) => void res.writeHead(status, headers).end());
    const answer = await send({ method, headers: { 'if-none-match': '"x"' } });
    expect(answer).toMatchObject({ status, length });
    expect(answer.headers).toMatchObject(headers);
    expect(await textOf(answer)).toBe('');
  });
});

describe('a status that MLflow’s client would try again or follow', () => {
  const body = '{"error_code":"X","message":"the database is locked, Bearer s3cret"}';

  test.each([
    [408, 'mlflow_timeout'],
    [429, 'mlflow_error'],
    [500, 'mlflow_error'],
    [502, 'mlflow_error'],
    [503, 'mlflow_error'],
    [504, 'mlflow_error'],
  ])('%d is %s, with MLflow’s words and no credential', async (status, code) => {
    const { send, asked } = await relayed((_, res) => void res.writeHead(status).end(body));
    const error = await send({ authorization: 'Bearer s3cret' }).catch((reason: unknown) => reason);
    expect(error).toMatchObject({
      code,
      message: expect.stringContaining(`HTTP ${status} (the database is locked, Bearer [redacted])`),
    });
    expect(asked).toHaveLength(1);
  });

  test.each([300, 301, 302, 303, 307, 308])('%d is not followed', async status => {
    const { send, asked } = await relayed(
      (_, res) => void res.writeHead(status, { location: '/other' }).end('moved'),
    );
    await expect(send({ method: 'POST' })).rejects.toMatchObject({
      code: 'mlflow_error',
      message: expect.stringContaining(`redirected (HTTP ${status})`),
    });
    expect(asked).toHaveLength(1);
  });

  test('says the start of what is not MLflow’s JSON', async () => {
    const { send } = await relayed((_, res) => void res.writeHead(502).end('<h1>Bad\n  Gateway</h1>'));
    await expect(send()).rejects.toThrow('HTTP 502 (<h1>Bad Gateway</h1>).');
  });

  test('is not read further than its first 64 KiB, nor for long, nor need it be whole', async () => {
    const { send, open } = await relayedRaw((socket, n) => {
      const head = 'HTTP/1.1 503 Busy\r\nContent-Length: 999999999\r\n\r\nso busy';
      const then = [
        () => socket.write(Buffer.alloc(256 * 1024, ' ')),
        () => socket.destroy(),
        () => undefined,
      ][n - 1];
      saying(head, then)(socket);
    });
    const startedAt = performance.now();
    for (const _ of ['long', 'cut']) await expect(send()).rejects.toThrow('HTTP 503 (so busy).');
    expect(performance.now() - startedAt).toBeLessThan(atMost(1_000));
    await expect(send()).rejects.toThrow('HTTP 503 (so busy).');
    expect(performance.now() - startedAt).toBeLessThan(atMost(3_000));
    await expect.poll(() => open.size).toBe(0);
  });
});

/** So many pieces of 64 KiB, each another; tells how much of them was taken. */
function pieces(count: number) {
  const counter = { bytes: 0 };
  const hash = createHash('sha256');
  const stream = Readable.from(
    (function* () {
      for (let n = 0; n < count; n++) {
        const piece = Buffer.alloc(64 * 1024, n);
        hash.update(piece);
        counter.bytes += piece.length;
        yield piece;
      }
    })(),
    { objectMode: false, highWaterMark: 64 * 1024 },
  );
  return { stream, counter, digest: () => hash.digest('hex') };
}

describe('64 MiB', () => {
  const COUNT = 1_024;
  const LENGTH = { 'content-length': String(COUNT * 64 * 1024) };

  test.each([LENGTH, {}])('go up in bounded memory: %o', async headers => {
    const { stream, counter, digest } = pieces(COUNT);
    const between: number[] = [];
    const { send } = await relayed(async (req, res) => {
      const hash = createHash('sha256');
      let came = 0;
      for await (const piece of req) {
        hash.update(piece);
        came += piece.length;
        if (between.length < 10) await sleep(20);
        between.push(counter.bytes - came);
      }
      res.end(hash.digest('hex'));
    });
    const answer = await send({ method: 'PUT', headers, body: stream });
    expect(await textOf(answer)).toBe(digest());
    expect(Math.max(...between)).toBeLessThan(MOST_BETWEEN);
  });

  test.each([LENGTH, {}])('come down in bounded memory: %o', async headers => {
    const { stream, counter, digest } = pieces(COUNT);
    const { send } = await relayed((_, res) => void stream.pipe(res.writeHead(200, headers)));
    const { body } = await send();
    const hash = createHash('sha256');
    const between: number[] = [];
    let came = 0;
    for await (const piece of body) {
      hash.update(piece);
      came += piece.byteLength;
      if (between.length < 10) await sleep(20);
      between.push(counter.bytes - came);
    }
    expect(hash.digest('hex')).toBe(digest());
    expect(Math.max(...between)).toBeLessThan(MOST_BETWEEN);
  });

  test('that MLflow does not read are left with the caller, and end when nothing moved for long', async () => {
    const { stream, counter } = pieces(COUNT);
    const { send, breaker } = await relayedRaw(socket => void socket.pause(), IMPATIENT);
    const startedAt = performance.now();
    await expect(send({ method: 'PUT', headers: LENGTH, body: stream })).rejects.toMatchObject({
      code: 'mlflow_timeout',
      message: expect.stringContaining('took nothing of the body for 1 s'),
    });
    expect(performance.now() - startedAt).toBeLessThan(atMost(IDLE_MS + 2_000));
    expect(counter.bytes).toBeLessThan(MOST_BETWEEN);
    expect([stream.destroyed, breaker.failures]).toEqual([false, 1]);
  });
});

describe('an answer that comes while the body is still sent', () => {
  const REFUSAL = '{"error_code":"TOO_LARGE"}';

  test.each([
    ['keeps the connection', undefined],
    ['closes it', { connection: 'close' }],
  ])('is passed on, and the caller’s stream left alone, where MLflow %s', async (_, headers) => {
    const { send, breaker } = await relayed((_req, res) => {
      res.writeHead(413, { ...headers, 'content-length': REFUSAL.length }).end(REFUSAL);
    });
    // Where a connection is closed, what was said before has to win a race.
    for (let n = 0; n < 10; n++) {
      const { stream, counter } = pieces(1_024);
      const answer = await send({ method: 'PUT', body: stream });
      expect([answer.status, await textOf(answer)]).toEqual([413, REFUSAL]);
      await new Promise(setImmediate);
      expect(counter.bytes).toBeLessThan(MOST_BETWEEN);
      expect(stream.destroyed).toBe(false);
    }
    expect(breaker.failures).toBe(0);
  });

  test('may go on for as long as it likes, and after the body', async () => {
    const body = new PassThrough();
    const { send } = await relayed(
      (req, res) => {
        req.on('end', () => setTimeout(() => res.end('three'), FIRST_BYTE_MS + 50));
        req.pipe(res, { end: false });
      },
      { ...IMPATIENT, floor: { bytesPerSecond: 0, windowS: 1 } },
    );
    body.write('one');
    const answer = await send({ method: 'POST', body });
    const came: string[] = [];
    for await (const piece of answer.body) {
      came.push(Buffer.from(piece).toString());
      if (came.length === 1) setTimeout(() => body.end('two'), FIRST_BYTE_MS + 50);
    }
    expect(came).toEqual(['one', 'two', 'three']);
  });
});

describe('the time', () => {
  test('until the first byte is limited, from the end of the request on', async () => {
    const { send, open, connections, breaker } = await relayedRaw(socket => void socket.resume(), IMPATIENT);
    for (const body of [null, Readable.from([Buffer.from('x')])]) {
      const startedAt = performance.now();
      await expect(send({ method: 'POST', body })).rejects.toMatchObject({
        code: 'mlflow_timeout',
        message: expect.stringContaining('no answer within 0.6 s'),
      });
      expect(performance.now() - startedAt).toBeLessThan(atMost(FIRST_BYTE_MS + 500));
    }
    expect([connections(), breaker.failures]).toEqual([2, 2]);
    await expect.poll(() => open.size).toBe(0);
  });

  test('that a body takes to come does not count, as long as it moves', async () => {
    const options = { ...IMPATIENT, floor: { bytesPerSecond: 0, windowS: 1 } };
    const { send } = await relayed(async (req, res) => void res.end(await bodyOf(req)), options);
    const body = new PassThrough();
    const sending = (async () => {
      for (const piece of ['a', 'b', 'c', 'd']) {
        await sleep(IDLE_MS / 2);
        body.write(piece);
      }
      body.end();
    })();
    const startedAt = performance.now();
    expect(await textOf(await send({ method: 'POST', body }))).toBe('abcd');
    expect(performance.now() - startedAt).toBeGreaterThan(FIRST_BYTE_MS + IDLE_MS);
    await sending;
  });

  test('in which the caller sends nothing of its body is limited, and no fault of MLflow’s', async () => {
    const { send, open, breaker } = await relayedRaw(socket => void socket.resume(), IMPATIENT);
    const body = new PassThrough();
    body.write('some');
    const startedAt = performance.now();
    await expect(send({ method: 'POST', body })).rejects.toMatchObject({
      code: 'invalid_request',
      message: expect.stringContaining('for 1 s'),
    });
    expect(performance.now() - startedAt).toBeLessThan(atMost(IDLE_MS + 500));
    expect([breaker.failures, body.destroyed]).toEqual([0, false]);
    await expect.poll(() => open.size).toBe(0);
  });

  test('that an answer trickles is limited', async () => {
    const { send, open } = await relayedRaw(socket => {
      const trickle = setInterval(() => socket.write('x'), 50);
      socket.once('close', () => clearInterval(trickle));
      saying('HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n')(socket);
    });
    const answer = await send();
    const startedAt = performance.now();
    await expect(textOf(answer)).rejects.toMatchObject({
      code: 'mlflow_timeout',
      message: expect.stringContaining('less than 0.9765625 KiB/s for 1 s'),
    });
    expect(performance.now() - startedAt).toBeLessThan(atMost(3_000));
    await expect.poll(() => open.size).toBe(0);
  });

  test('that the caller takes to read does not count', async () => {
    const { send } = await relayed((_, res) => void res.end(Buffer.alloc(32 * MIB)));
    let came = 0;
    for await (const piece of (await send()).body) {
      if (came === 0) await sleep(2_200);
      came += piece.byteLength;
    }
    expect(came).toBe(32 * MIB);
  });
});

describe('a caller that leaves', () => {
  const reason = new Error('the caller has left');

  test('before the answer ends the exchange, which says nothing about MLflow', async () => {
    const { send, open, connections, breaker } = await relayedRaw(socket => void socket.resume());
    const controller = new AbortController();
    const sending = send({ signal: controller.signal });
    await expect.poll(connections).toBe(1);
    controller.abort(reason);
    await expect(sending).rejects.toBe(reason);
    await expect.poll(() => open.size).toBe(0);
    expect(breaker.failures).toBe(0);
    await expect(send({ signal: controller.signal, body: new PassThrough() })).rejects.toBe(reason);
    expect(connections()).toBe(1);
  });

  test('while the answer comes ends it, too', async () => {
    const { send, open } = await relayedRaw(saying('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc'));
    const controller = new AbortController();
    const answer = await send({ signal: controller.signal });
    setTimeout(() => controller.abort(reason), 20);
    await expect(textOf(answer)).rejects.toBe(reason);
    await expect.poll(() => open.size).toBe(0);
  });

  test('or is answered otherwise closes it, read or not', async () => {
    const { send, open } = await relayedRaw(saying('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc'));
    (await send()).close();
    await expect.poll(() => open.size).toBe(0);
  });

  test.each([
    ['with a length', { 'content-length': '100' }],
    ['in chunks', {}],
  ])('within its body leaves MLflow with one that is not whole: %s', async (_, headers) => {
    let ending = '';
    const { send, asked, breaker } = await relayed(req => {
      req.on('end', () => (ending = 'whole')).on('error', () => (ending = 'cut'));
      req.resume();
    });
    const body = new PassThrough();
    body.write('some');
    const sending = send({ method: 'POST', headers, body });
    const settled = expect(sending).rejects.toMatchObject({
      code: 'invalid_request',
      message: 'The body of the request broke off.',
    });
    await expect.poll(() => asked.length).toBe(1);
    body.destroy(new Error('aborted'));
    await settled;
    await expect.poll(() => ending).toBe('cut');
    expect(breaker.failures).toBe(0);
    await expect(send({ method: 'POST', headers, body })).rejects.toMatchObject({ code: 'invalid_request' });
  });
});

describe('an answer that breaks off', () => {
  test.each([
    ['with a length', 'Content-Length: 9\r\n\r\nabc'],
    ['in chunks', 'Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n'],
  ])('%s is never whole, nor asked for again', async (_, rest) => {
    const cuts = [
      (socket: { destroy(): void }) => socket.destroy(),
      (socket: { end(): void }) => socket.end(),
    ];
    for (const cut of cuts) {
      const { send, connections } = await relayedRaw(
        saying(`HTTP/1.1 200 OK\r\n${rest}`, socket => setTimeout(() => cut(socket), 20)),
      );
      const answer = await send();
      const came: string[] = [];
      const reading = (async () => {
        for await (const piece of answer.body) came.push(Buffer.from(piece).toString());
      })();
      await expect(reading).rejects.toMatchObject({ code: 'mlflow_unreachable' });
      expect([came.join(''), connections()]).toEqual(['abc', 1]);
    }
  });

  test.each(['HTTP/1.1 200 OK\r\n\r\nabc', 'HTTP/1.0 200 OK\r\n\r\nabc', 'HTTP/1.1 404 No\r\n\r\nabc'])(
    'could not be told where only the connection ends it: %j',
    async bytes => {
      const { send, open } = await relayedRaw(saying(bytes, socket => socket.end()));
      await expect(send()).rejects.toMatchObject({ code: 'artifact_corrupt' });
      await expect.poll(() => open.size).toBe(0);
    },
  );

  test('nor is one taken that says of its length two things', async () => {
    const { send } = await relayedRaw(
      saying('HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n'),
    );
    await expect(send({ method: 'POST' })).rejects.toMatchObject({ code: 'mlflow_unreachable' });
  });
});

describe('where no answer comes', () => {
  const hangUp = (socket: { destroy(): void }) => socket.destroy();

  /** Its waits take no time. */
  async function atOnce<T>(work: () => Promise<T>): Promise<T> {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    try {
      const working = work();
      const over = new AbortController();
      const end = () => over.abort();
      working.then(end, end);
      while (!over.signal.aborted)
        await Promise.all([vi.advanceTimersByTimeAsync(20), new Promise(setImmediate)]);
      return await working;
    } finally {
      vi.useRealTimers();
    }
  }
  const PATIENT = { answerMs: answerWithin(60_000), idleMs: 30_000 };

  test.each(['GET', 'HEAD'])('%s is tried up to three times', async method => {
    const { send, events, connections } = await relayedRaw((socket, n) => {
      if (n < 3) hangUp(socket);
      else saying('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n')(socket);
    }, PATIENT);
    expect(await atOnce(() => send({ method }))).toMatchObject({ status: 200 });
    expect(connections()).toBe(3);
    expect(events).toMatchObject([
      { type: 'try_failed', what: `${method} /api/2.0/mlflow/x`, attempt: 1, retryInMs: expect.any(Number) },
      { type: 'try_failed', attempt: 2, retryInMs: expect.any(Number) },
    ]);
  });

  test('and no more than that', async () => {
    const { send, breaker, connections } = await relayedRaw(hangUp, PATIENT);
    await expect(atOnce(() => send())).rejects.toMatchObject({ code: 'mlflow_unreachable' });
    expect([connections(), breaker.failures]).toEqual([3, 3]);
  });

  test.each([6_100, 60_000])('nor later than 8 s after it was asked: %d', async tookMs => {
    let now = 0;
    const clock = { ...systemClock, monotonic: () => now };
    const tries = { onConnection: hangUp };
    const { send, events, connections } = await relayedRaw(
      socket => {
        now += tookMs;
        tries.onConnection(socket);
      },
      { ...PATIENT, clock },
    );
    const startedAt = performance.now();
    await expect(send()).rejects.toMatchObject({ code: 'mlflow_unreachable' });
    expect(performance.now() - startedAt).toBeLessThan(atMost(500));
    expect([connections(), events]).toMatchObject([1, [{ attempt: 1, retryInMs: null }]]);
  });

  test.each([
    ['POST', null],
    ['PUT', null],
    ['PATCH', null],
    ['DELETE', null],
    ['OPTIONS', null],
    ['GET', 'with a body'],
  ])('%s is asked once: %s', async (method, text) => {
    const { send, connections } = await relayedRaw(hangUp, PATIENT);
    const body = text === null ? null : Readable.from([Buffer.from(text)]);
    await expect(send({ method, body })).rejects.toMatchObject({ code: 'mlflow_unreachable' });
    expect(connections()).toBe(1);
  });

  test('the reason says what to look at', async () => {
    const { send } = await relayTo(`http://127.0.0.1:${await freePort()}`);
    await expect(send({ method: 'POST' })).rejects.toMatchObject({
      code: 'mlflow_unreachable',
      message: expect.stringContaining('connection refused'),
      hint: expect.stringContaining('MLFLOW_TRACKING_URI'),
    });
  });
});

describe('the breaker', () => {
  test('opens after five that failed, and refuses the next at once', async () => {
    const { send, connections } = await relayedRaw(socket => void socket.destroy());
    for (let n = 0; n < 5; n++) await expect(send({ method: 'POST' })).rejects.toThrow('connection');
    for (const method of ['POST', 'GET'])
      await expect(send({ method })).rejects.toMatchObject({ code: 'circuit_open' });
    expect(connections()).toBe(5);
  });

  test('takes a 4xx for a success, and a 5xx, 408 or 429 for nothing', async () => {
    let status = 0;
    const { send, breaker } = await relayed((req, res) => {
      if (status === 0) req.socket.destroy();
      else res.writeHead(status).end('x');
    });
    const failures: number[] = [];
    for (status of [0, 0, 500, 503, 408, 429, 501, 0, 404, 0, 200]) {
      await send({ method: 'POST' }).catch(() => undefined);
      failures.push(breaker.failures);
    }
    expect(failures).toEqual([1, 2, 2, 2, 2, 2, 2, 3, 0, 1, 0]);
  });

  test('does not count a connection that ends before all of a body was sent', async () => {
    const { send, breaker } = await relayedRaw(socket => void socket.once('data', () => socket.destroy()));
    const { stream } = pieces(1_024);
    await expect(send({ method: 'PUT', body: stream })).rejects.toMatchObject({
      code: 'mlflow_unreachable',
      message: expect.stringContaining('had not taken all'),
    });
    expect(breaker.failures).toBe(0);
  });
});
