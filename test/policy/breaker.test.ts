import { setImmediate as turn } from 'node:timers/promises';
import { expect, onTestFinished, test } from 'vitest';
import { SidecarError } from '../../src/domain/errors.ts';
import { Breaker } from '../../src/policy/breaker.ts';
import { ManualClock } from '../reload/support.ts';

const forever = new AbortController().signal;
const down = (message = 'connection refused.') => new SidecarError('mlflow_unreachable', message);

async function rejected(error: Error): Promise<never> {
  throw error;
}

function breaking(limits = { failures: 5, resetMs: 60_000 }) {
  const clock = new ManualClock();
  const changes: string[] = [];
  const breaker = new Breaker({
    who: 'MLflow at http://m',
    limits,
    clock,
    onChange: (from, to, reason) => changes.push(`${from} > ${to}: ${reason}`),
  });
  onTestFinished(() => breaker.dispose());
  const fail = (error: Error = down()) =>
    expect(breaker.run(forever, () => rejected(error))).rejects.toBe(error);
  const succeed = () => breaker.run(forever, async () => 'value');
  const open = async () => {
    for (let n = 0; n < limits.failures; n++) await fail(down(`failure ${n + 1}.`));
  };
  return { breaker, clock, changes, fail, succeed, open };
}

/** A request that a test ends. */
function held(breaker: Breaker, signal: AbortSignal = forever) {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const result = breaker.run(signal, () => promise);
  result.catch(() => undefined);
  return { result, resolve, reject };
}

test('what passes gives its result, and what fails its own error', async () => {
  const { succeed, fail, breaker } = breaking();
  await expect(succeed()).resolves.toBe('value');
  await fail();
  expect(breaker).toMatchObject({
    state: 'closed',
    failures: 1,
    lastFailure: 'connection refused.',
    retryInMs: null,
  });
});

test('after five failures in a row the sixth request does not begin, and is told all about it', async () => {
  const { breaker, clock, open } = breaking();
  await open();
  clock.advance(18_000);
  let began = false;
  const refused = breaker.run(forever, async () => {
    began = true;
  });
  await expect(refused).rejects.toMatchObject({
    code: 'circuit_open',
    message:
      'MLflow at http://m failed 5 times in a row; the next trial is in 42 s. Last failure: failure 5.',
    retryAfterS: 42,
  });
  expect(began).toBe(false);
  expect(breaker).toMatchObject({ state: 'open', failures: 5, retryInMs: 42_000 });
});

test('failures a day apart open it as well, though nothing of them is in a window any more', async () => {
  const { breaker, clock, fail, succeed } = breaking();
  for (let n = 0; n < 1_000; n++) await succeed();
  for (let n = 0; n < 5; n++) {
    clock.advance(86_400_000);
    await fail();
  }
  expect(breaker.state).toBe('open');
});

test('its state reads half-open once the time is over, though nobody asked anything', async () => {
  const { breaker, clock, open } = breaking();
  await open();
  clock.advance(60_000);
  expect(breaker).toMatchObject({ state: 'half-open', retryInMs: null });
  expect(breaker.refusal()).toBeNull();
});

test('of 50 requests at once after that time one begins, and the others are refused', async () => {
  const { breaker, clock, open } = breaking();
  await open();
  clock.advance(60_000);
  const trial = held(breaker);
  const others = await Promise.allSettled(Array.from({ length: 49 }, () => breaker.run(forever, turn)));
  expect(others.map(other => other.status === 'rejected' && other.reason.code)).toEqual(
    Array.from({ length: 49 }, () => 'circuit_open'),
  );
  expect(breaker.refusal()).toMatchObject({
    retryAfterS: 1,
    message: expect.stringContaining('a trial is under way'),
  });
  trial.resolve('well');
  await expect(trial.result).resolves.toBe('well');
  expect(breaker).toMatchObject({ state: 'closed', failures: 0 });
});

test('a trial that fails opens it for the whole time again', async () => {
  const { breaker, clock, open, fail } = breaking();
  await open();
  clock.advance(70_000);
  await fail();
  expect(breaker).toMatchObject({ state: 'open', failures: 6, retryInMs: 60_000 });
});

test.each([
  ['a definite no', new SidecarError('model_not_found', 'no')],
  ['a refused credential', new SidecarError('access_denied', 'no')],
  ['an artifact that is not there', new SidecarError('artifact_missing', 'no')],
  ['a path that is not taken', new SidecarError('unsafe_path', 'no')],
  ['a full disk', new SidecarError('disk_full', 'no')],
  ['HTTP 409', new SidecarError('mlflow_error', 'no', { serverFault: false })],
])('a trial that ends with %s leaves it half-open, and the next one decides', async (_, error) => {
  const { breaker, clock, open, fail, succeed } = breaking();
  await open();
  clock.advance(60_000);
  await fail(error);
  expect(breaker.state).toBe('half-open');
  await succeed();
  expect(breaker.state).toBe('closed');
});

test('a trial whose result is a definite no leaves it half-open', async () => {
  const { breaker, clock, open } = breaking();
  await open();
  clock.advance(60_000);
  await breaker.run(
    forever,
    async () => 404,
    status => status >= 400,
  );
  expect(breaker.state).toBe('half-open');
});

test('a trial that is cancelled from outside leaves it half-open', async () => {
  const { breaker, clock, open } = breaking();
  await open();
  clock.advance(60_000);
  const cancel = new AbortController();
  const trial = held(breaker, cancel.signal);
  cancel.abort(new SidecarError('mlflow_timeout', 'the process stops'));
  trial.reject(cancel.signal.reason);
  await expect(trial.result).rejects.toThrow('the process stops');
  expect(breaker.state).toBe('half-open');
});

test('a trial may be decided before its request ends, whose end then says nothing', async () => {
  const { breaker, clock, open } = breaking();
  await open();
  clock.advance(60_000);
  await breaker.run(forever, async trial => {
    trial?.succeeded();
    expect(breaker.state).toBe('closed');
  });
  expect(breaker).toMatchObject({ state: 'closed', failures: 0 });
});

test('a success from before the opening does not close it, neither open nor half-open', async () => {
  const { breaker, clock, open } = breaking();
  const [early, later] = [held(breaker), held(breaker)];
  await open();
  early.resolve('late');
  await early.result;
  expect(breaker.state).toBe('open');
  clock.advance(60_000);
  const trial = held(breaker);
  later.resolve('later still');
  await later.result;
  expect(breaker.state).toBe('half-open');
  expect(breaker.refusal()).not.toBeNull();
  trial.reject(down());
  await expect(trial.result).rejects.toThrow();
  expect(breaker.state).toBe('open');
});

test('a failure from before the opening does not make the opening longer', async () => {
  const { breaker, clock, open } = breaking();
  const early = held(breaker);
  await open();
  clock.advance(59_000);
  early.reject(down());
  await expect(early.result).rejects.toThrow();
  expect(breaker).toMatchObject({ failures: 5, retryInMs: 1_000 });
});

test('one error that ends sixteen requests is one failure', async () => {
  const { breaker } = breaking();
  const stop = new AbortController();
  const requests = Array.from({ length: 16 }, () => held(breaker, stop.signal));
  stop.abort(new SidecarError('artifact_timeout', 'below the floor', { serverFault: true }));
  for (const request of requests) request.reject(stop.signal.reason);
  await Promise.allSettled(requests.map(({ result }) => result));
  expect(breaker).toMatchObject({ state: 'closed', failures: 1, lastFailure: 'below the floor' });
});

test('who waits to try again is woken when it opens', async () => {
  const { breaker, open } = breaking();
  const { opening } = breaker;
  await open();
  expect(opening.aborted).toBe(true);
  expect(breaker.opening.aborted).toBe(false);
});

test('each change is told once, with its reason', async () => {
  const { clock, changes, open, fail, succeed } = breaking({ failures: 2, resetMs: 1_000 });
  await open();
  clock.advance(1_000);
  await fail(new SidecarError('model_not_found', 'no'));
  await succeed();
  expect(changes).toEqual([
    'closed > open: failure 2.',
    'open > half-open: null',
    'half-open > closed: null',
  ]);
});

test('one that was dropped still lets through who holds it, and still counts', async () => {
  const { breaker, succeed, open } = breaking();
  breaker.dispose();
  await expect(succeed()).resolves.toBe('value');
  await open();
  await expect(succeed()).rejects.toMatchObject({ code: 'circuit_open' });
});

test('it holds no timer, not even the one that an opening has', async () => {
  const timers = () => process.getActiveResourcesInfo().filter(kind => kind === 'Timeout').length;
  const before = timers();
  const { open, breaker } = breaking();
  await open();
  expect(timers()).toBe(before);
  breaker.dispose();
});
