import { PassThrough, Readable } from 'node:stream';
import { describe, expect, test } from 'vitest';
import type { Effect } from '../../src/proxy/effect.ts';
import type { RelayRequest } from '../../src/proxy/relay-request.ts';
import { freePort } from '../support/free-port.ts';
import { answerWithin, relayed, relayedRaw, relayTo, saying } from './relay-support.ts';

/** On a busy machine, too. */
const PATIENT = { answerMs: answerWithin(20_000) };

type Send = Awaited<ReturnType<typeof relayTo>>['send'];

/** What a write did to MLflow, as its relay tells. */
async function effectOf(send: Send, given: Partial<Omit<RelayRequest, 'url'>> = {}): Promise<Effect> {
  let last: Effect = 'none';
  const onEffect = (effect: Effect) => {
    last = effect;
  };
  const answer = await send({ method: 'PUT', ...given, onEffect }).catch(() => null);
  answer?.close();
  return last;
}

function body(): Partial<RelayRequest> {
  return { headers: { 'content-length': '3' }, body: Readable.from([Buffer.from('abc')]) };
}

describe('a write that MLflow', () => {
  test.each([
    ['none', 401],
    ['none', 405],
    ['none', 307],
    ['none', 429],
    ['done', 200],
    ['done', 207],
    ['unknown', 500],
    ['unknown', 303],
  ] as const)('was told to be: %s, by %d', async (effect, status) => {
    const { send } = await relayed((req, res) => {
      req.resume();
      res.writeHead(status, { location: '/' }).end('{}');
    }, PATIENT);
    for (const given of [{}, body()]) expect(await effectOf(send, given)).toBe(effect);
  });

  test.each([
    ['none', 'HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n'],
    ['done', 'HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 201 Yes\r\nContent-Length: 0\r\n\r\n'],
    // What it would say is cut off, and that it was taken is known.
    ['done', 'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc'],
    ['unknown', 'HTTP/1.1 100 Continue\r\n\r\n'],
    ['unknown', 'HTTP/1.1 20'],
    ['unknown', 'this is not HTTP\r\n\r\n'],
    ['unknown', ''],
  ] as const)('answered so is: %s, %j', async (effect, bytes) => {
    const { send } = await relayedRaw(
      saying(bytes, socket => void socket.end()),
      PATIENT,
    );
    for (const given of [{}, body()]) expect(await effectOf(send, given)).toBe(effect);
  });

  test('did not answer in time may have been done', async () => {
    const { send } = await relayedRaw(socket => void socket.resume());
    expect(await effectOf(send)).toBe('unknown');
  });

  test('got a part of only may have been done, whoever broke it off', async () => {
    const { send } = await relayedRaw(socket => void socket.resume());
    for (const end of ['caller', 'source'] as const) {
      const source = new PassThrough();
      source.write('abc');
      const left = new AbortController();
      const sending = effectOf(send, {
        headers: { 'content-length': '9' },
        body: source,
        signal: left.signal,
      });
      await new Promise(resolve => setTimeout(resolve, 100));
      if (end === 'caller') left.abort(new Error('gone'));
      else source.destroy();
      expect(await sending).toBe('unknown');
    }
  });

  test('never got was not done', async () => {
    const { send: unreachable } = await relayTo(`http://127.0.0.1:${await freePort()}`);
    expect(await effectOf(unreachable)).toBe('none');
    const { send, connections } = await relayedRaw(socket => void socket.destroy());
    for (let n = 0; n < 5; n++) await effectOf(send);
    const before = connections();
    expect(await effectOf(send)).toBe('none');
    expect(connections()).toBe(before);
    const { send: cannotSend, asked } = await relayed((_, res) => void res.end());
    expect(await effectOf(cannotSend, { headers: { 'x-a': 'b\nc' } })).toBe('none');
    expect(asked).toEqual([]);
  });
});
