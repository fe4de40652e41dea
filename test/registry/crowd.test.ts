import { createServer, type ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, onTestFinished, test } from 'vitest';
import { SidecarError } from '../../src/domain/errors.ts';
import { Breaker } from '../../src/policy/breaker.ts';
import { ManualClock } from '../reload/support.ts';
import { call, listen, serve } from '../upstream/support.ts';
import { asking, registered } from './support.ts';

const QUESTION = { path: 'model-versions/get' };
const ANSWER = { model_version: registered() };

/** Answers when it is told to, and counts what waits for it. */
async function patient() {
  const waiting: ServerResponse[] = [];
  const server = createServer((_, res) => waiting.push(res));
  const url = await listen(server);
  const answer = () => {
    for (const res of waiting.splice(0))
      res.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(ANSWER));
  };
  return { url, waiting, answer };
}

function breaking(clock: ManualClock): Breaker {
  const limits = { failures: 5, resetMs: 60_000 };
  const breaker = new Breaker({ who: 'MLflow', limits, clock, onChange: () => undefined });
  onTestFinished(() => breaker.dispose());
  return breaker;
}

async function until(seen: () => boolean): Promise<void> {
  for (let n = 0; n < 2_000 && !seen(); n++) await sleep(10);
  expect(seen()).toBe(true);
}

test('32 questions are on their way at once, and those that wait use up none of their time', async () => {
  const { url, waiting, answer } = await patient();
  const { client, events } = await asking(url, { tryTimeoutMs: 4_000 });
  const asked = Array.from({ length: 60 }, () => client.ask(QUESTION, call()));
  await until(() => waiting.length === 32);
  await sleep(2_200);
  expect(waiting).toHaveLength(32);
  expect(client.waiting).toBe(28);
  answer();
  await until(() => waiting.length === 28);
  // By now they have been waiting for longer than a try may take.
  await sleep(2_000);
  answer();
  await Promise.all(asked);
  expect(events).toEqual([]);
});

test('more than 1,000 that wait are refused at once', async () => {
  const { url } = await patient();
  const { client } = await asking(url);
  const stop = new AbortController();
  const all = Array.from({ length: 1_033 }, () => client.ask(QUESTION, { ...call(), signal: stop.signal }));
  await expect(all.at(-1)).rejects.toMatchObject({ code: 'overloaded' });
  stop.abort(new SidecarError('internal', 'stopping'));
  const ends = await Promise.allSettled(all.slice(0, -1));
  const reasons = ends.map(end => (end.status === 'rejected' ? String(end.reason.message) : 'answered'));
  expect(new Set(reasons)).toEqual(new Set(['stopping']));
});

test('what waits in the queue when the breaker opens is never sent', async () => {
  const upstream = await serve(() => ({ status: 503 }));
  const breaker = breaking(new ManualClock());
  const { client } = await asking(upstream.url, { attempts: 3, breakerOf: () => breaker });
  const asked = await Promise.allSettled(Array.from({ length: 500 }, () => client.ask(QUESTION, call())));
  expect(upstream.asked.length).toBeLessThanOrEqual(32);
  const codes = asked.map(end => end.status === 'rejected' && end.reason.code);
  expect(codes.filter(code => code === 'circuit_open').length).toBeGreaterThanOrEqual(500 - 32);
  expect(new Set(codes)).toEqual(new Set(['mlflow_error', 'circuit_open']));
});

test.each([400, 404])(
  'a trial that MLflow answers with %i decides nothing, one with 200 does',
  async status => {
    let answer = 503;
    const upstream = await serve(() => ({
      status: answer,
      body: answer === 503 ? 'no' : answer === 200 ? ANSWER : { error_code: 'X' },
    }));
    const clock = new ManualClock();
    const breaker = breaking(clock);
    const { client } = await asking(upstream.url, { breakerOf: () => breaker });
    for (let n = 0; n < 5; n++) await expect(client.ask(QUESTION, call())).rejects.toThrow('503');
    expect(breaker.state).toBe('open');
    clock.advance(60_000);
    answer = status;
    await expect(client.ask(QUESTION, call())).resolves.toMatchObject({ status });
    expect(breaker.state).toBe('half-open');
    answer = 200;
    await client.ask(QUESTION, call());
    expect(breaker.state).toBe('closed');
  },
);

test.each([
  ['408', { status: 408 }, 1],
  ['429', { status: 429 }, 1],
  ['500', { status: 500 }, 1],
  ['a page with 200', { body: '<p>hello' }, 1],
  ['another answer with 200', { body: { message: 'rate limited' } }, 1],
  ['a page with 404', { status: 404, body: '<p>hello' }, 0],
  ['a redirect', { status: 302 }, 0],
  ['401', { status: 401 }, 0],
  ['403', { status: 403 }, 0],
  ['409', { status: 409 }, 0],
  ['422', { status: 422, body: { error_code: 'X' } }, 0],
])('%s counts as it should', async (_, answer, failures) => {
  const upstream = await serve(() => answer);
  const breaker = breaking(new ManualClock());
  const { client } = await asking(upstream.url, { breakerOf: () => breaker });
  await expect(client.ask(QUESTION, call())).rejects.toBeInstanceOf(SidecarError);
  expect(breaker.failures).toBe(failures);
});
