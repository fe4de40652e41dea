import { once } from 'node:events';
import { PassThrough, Readable } from 'node:stream';
import { describe, expect, test } from 'vitest';
import type { RelayKind } from '../../src/proxy/relay-request.ts';
import { atMost } from '../support/limits.ts';
import { answerWithin, bodyOf, relayed, relayedRaw, textOf } from './relay-support.ts';

const MIB = 1024 * 1024;
const KINDS: readonly RelayKind[] = ['registry', 'tracking', 'artifacts'];

/** A body of so many bytes, with what a client says of it. */
function bodyWith(bytes: number) {
  return { headers: { 'content-length': String(bytes) }, body: Readable.from([Buffer.alloc(bytes)]) };
}

describe('half-open', () => {
  type Mood = 'broken' | 'silent' | 'busy' | 'well';

  /** With a breaker that five failures have opened, and that has waited long enough. */
  async function halfOpen(trialMs = 1_000) {
    const server: { mood: Mood } = { mood: 'broken' };
    const made = await relayed(
      async (req, res) => {
        if (server.mood === 'broken') return void req.socket.destroy();
        await bodyOf(req);
        if (server.mood !== 'silent') res.writeHead(server.mood === 'busy' ? 503 : 200).end('x');
      },
      { answerMs: answerWithin(60_000), trialMs },
    );
    for (let n = 0; n < 5; n++) await made.send({ method: 'POST' }).catch(() => undefined);
    await expect.poll(() => made.breaker.state).toBe('half-open');
    return { ...made, server };
  }

  test.each([
    ['no body', () => ({})],
    ['1 MiB', () => bodyWith(MIB)],
  ])('a request with %s is the trial, and closes it', async (_, given) => {
    const { send, breaker, server } = await halfOpen();
    server.mood = 'well';
    expect((await send({ method: 'POST', ...given() })).status).toBe(200);
    expect([breaker.state, breaker.failures]).toEqual(['closed', 0]);
  });

  test('the trial that fails opens it again', async () => {
    const { send, breaker } = await halfOpen();
    await expect(send({ method: 'POST' })).rejects.toMatchObject({ code: 'mlflow_unreachable' });
    expect([breaker.state, breaker.failures]).toEqual(['open', 6]);
  });

  test.each([
    ['GET', () => ({})],
    ['POST', () => bodyWith(3)],
  ])(
    'the trial has a deadline of its own, which counts as a failure, and all others wait for none: %s',
    async (method, given) => {
      const { send, breaker, server, asked, events } = await halfOpen(2_000);
      server.mood = 'silent';
      const startedAt = performance.now();
      const trial = expect(send({ method, ...given() })).rejects.toMatchObject({
        code: 'mlflow_timeout',
        message: expect.stringContaining('no answer within 2 s'),
      });
      await expect.poll(() => asked.length).toBe(6);
      for (const other of [{}, { method: 'POST' }, { method: 'PUT', ...bodyWith(3) }])
        await expect(send(other)).rejects.toMatchObject({ code: 'circuit_open' });
      expect(performance.now() - startedAt).toBeLessThan(atMost(1_900));
      await trial;
      expect(performance.now() - startedAt).toBeLessThan(atMost(2_700));
      expect([breaker.state, breaker.failures, asked.length]).toEqual(['open', 6, 6]);
      expect(events.at(-1)).toMatchObject({ type: 'try_failed', retryInMs: null });
    },
  );

  test.each([
    ['more than 1 MiB', () => bodyWith(MIB + 1)],
    ['chunks', () => ({ body: Readable.from([Buffer.from('x')]) })],
  ])('a request with %s is refused, and leaves the trial to another', async (_, given) => {
    const { send, breaker, server, asked } = await halfOpen();
    server.mood = 'well';
    await expect(send({ method: 'PUT', ...given() })).rejects.toMatchObject({ code: 'circuit_open' });
    expect([breaker.state, breaker.trial, asked.length]).toEqual(['half-open', null, 5]);
    expect((await send({ method: 'POST' })).status).toBe(200);
    expect((await send({ method: 'PUT', ...given() })).status).toBe(200);
  });

  test('what says nothing about MLflow leaves it to the next: a 503, a caller that holds its body back', async () => {
    const { send, breaker, server } = await halfOpen();
    server.mood = 'busy';
    await expect(send()).rejects.toMatchObject({ code: 'mlflow_error' });
    expect([breaker.state, breaker.trial, breaker.failures]).toEqual(['half-open', null, 5]);
    server.mood = 'well';
    const held = { headers: { 'content-length': '9' }, body: new PassThrough() };
    await expect(send({ method: 'POST', ...held })).rejects.toMatchObject({ code: 'invalid_request' });
    expect([breaker.state, breaker.trial, breaker.failures]).toEqual(['half-open', null, 5]);
  });

  test('the answer of a trial comes for as long as it likes', async () => {
    const { send } = await relayed(
      (_, res) => {
        res.write('one');
        setTimeout(() => res.end('two'), 900);
      },
      { answerMs: answerWithin(600), trialMs: 600 },
    );
    expect(await textOf(await send())).toBe('onetwo');
  });
});

describe('what a request is for', () => {
  test.each(KINDS)('says how long it may take, and whose breaker it passes: %s', async kind => {
    const asked: RelayKind[] = [];
    const answerMs = { ...answerWithin(60_000), [kind]: 100 };
    const { send, breaker } = await relayedRaw(socket => void socket.resume(), {
      answerMs,
      breakerOf: (one: RelayKind) => {
        asked.push(one);
        return breaker;
      },
    });
    for (const given of [{}, bodyWith(3), { body: Readable.from([Buffer.from('x')]) }])
      await expect(send({ kind, method: 'POST', ...given })).rejects.toMatchObject({
        code: 'mlflow_timeout',
        message: expect.stringContaining('no answer within 0.1 s'),
      });
    expect([asked, breaker.failures]).toEqual([[kind, kind, kind], 3]);
  });

  test.each(['registry', 'tracking'] as const)('and all tries together take no longer: %s', async kind => {
    const answerMs = { ...answerWithin(60_000), [kind]: 1_500 };
    const { send, breaker, connections } = await relayedRaw(
      (socket, n) => {
        if (n === 1) setTimeout(() => socket.destroy(), 20);
        else socket.resume();
      },
      { answerMs },
    );
    const startedAt = performance.now();
    await expect(send({ kind })).rejects.toMatchObject({ code: 'mlflow_unreachable' });
    expect(performance.now() - startedAt).toBeLessThan(atMost(1_900));
    // The second try was cut before its time.
    expect(breaker.failures).toBe(1);
    expect(connections()).toBeLessThanOrEqual(2);
  });

  test.each(['registry', 'tracking'] as const)(
    'a short body counts, and is no fault of MLflow’s where the caller holds it back: %s',
    async kind => {
      const { send, breaker } = await relayedRaw(socket => void socket.resume(), {
        answerMs: answerWithin(150),
      });
      const startedAt = performance.now();
      await expect(
        send({ kind, method: 'POST', headers: { 'content-length': '9' }, body: new PassThrough() }),
      ).rejects.toMatchObject({
        code: 'invalid_request',
        message: expect.stringContaining('did not come whole within 0.15 s'),
      });
      expect(performance.now() - startedAt).toBeLessThan(atMost(350));
      expect(breaker.failures).toBe(0);
    },
  );

  test('a file has its time from its end on, however short', async () => {
    const { send } = await relayed(async (req, res) => void res.end(await bodyOf(req)), {
      answerMs: answerWithin(600),
    });
    const body = new PassThrough();
    setTimeout(() => body.end('abc'), 900);
    const headers = { 'content-length': '3' };
    expect(await textOf(await send({ kind: 'artifacts', method: 'PUT', headers, body }))).toBe('abc');
  });
});

describe('an upload that trickles ends', () => {
  const SLOW = {
    idleMs: 60_000,
    answerMs: answerWithin(60_000),
    floor: { bytesPerSecond: 64 * 1024, windowS: 1 },
  };

  test('where the caller sends it so, without a fault of MLflow’s', async () => {
    const { send, breaker, open } = await relayedRaw(socket => void socket.resume(), SLOW);
    const body = new PassThrough();
    const trickle = setInterval(() => body.write('x'), 50);
    const startedAt = performance.now();
    await expect(send({ method: 'PUT', body })).rejects.toMatchObject({
      code: 'invalid_request',
      message: expect.stringContaining('came at less than 64 KiB/s for 1 s'),
    });
    clearInterval(trickle);
    expect(performance.now() - startedAt).toBeLessThan(atMost(3_000));
    expect([breaker.failures, body.destroyed]).toEqual([0, false]);
    await expect.poll(() => open.size).toBe(0);
  });

  test('where MLflow takes it so, as its failure', async () => {
    const { send, breaker } = await relayedRaw(socket => {
      socket.pause();
      const trickle = setInterval(() => socket.read(1), 50);
      socket.once('close', () => clearInterval(trickle));
    }, SLOW);
    const endless = Readable.from(
      (function* () {
        for (;;) yield Buffer.alloc(64 * 1024);
      })(),
      { objectMode: false },
    );
    await expect(send({ method: 'PUT', body: endless })).rejects.toMatchObject({
      code: 'mlflow_timeout',
      message: expect.stringContaining('took less than 64 KiB/s of the body for 1 s'),
    });
    expect([breaker.failures, endless.destroyed]).toEqual([1, false]);
  });

  test('and not while it goes well, nor once it was sent', async () => {
    const { send } = await relayed(async (req, res) => {
      req.resume();
      await once(req, 'end');
      setTimeout(() => res.end('done'), 1_300);
    }, SLOW);
    const body = new PassThrough();
    const steady = setInterval(() => body.write(Buffer.alloc(16 * 1024)), 50);
    setTimeout(() => {
      clearInterval(steady);
      body.end();
    }, 2_300);
    expect(await textOf(await send({ method: 'PUT', body }))).toBe('done');
  });
});
