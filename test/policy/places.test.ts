import { setImmediate as turn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { Places } from '../../src/policy/places.ts';

const forever = new AbortController().signal;

/** Work that a test ends. */
function held(places: Places, signal: AbortSignal = forever) {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const seen = { began: false };
  const result = places.run(signal, () => {
    seen.began = true;
    return promise;
  });
  result.catch(() => undefined);
  return { result, resolve, reject, seen };
}

test('as many are done at once as there are places, and the next one as soon as one ends', async () => {
  const places = new Places('MLflow', { inFlight: 2, waiting: 10 });
  const [first, second, third] = [held(places), held(places), held(places)];
  await turn();
  expect([first, second, third].map(({ seen }) => seen.began)).toEqual([true, true, false]);
  second.reject(new Error('failed'));
  await expect(second.result).rejects.toThrow('failed');
  await turn();
  expect(third.seen.began).toBe(true);
  first.resolve();
  third.resolve();
  await Promise.all([first.result, third.result]);
});

test('who waited longest is next, before whoever comes at that moment', async () => {
  const places = new Places('MLflow', { inFlight: 1, waiting: 10 });
  const [first, second, third] = [held(places), held(places), held(places)];
  first.resolve();
  await first.result;
  const fourth = held(places);
  await turn();
  expect([second, third, fourth].map(({ seen }) => seen.began)).toEqual([true, false, false]);
});

test('beyond the queue a refusal at once, and none once there is room again', async () => {
  const places = new Places('MLflow at http://m', { inFlight: 1, waiting: 2 });
  const first = held(places);
  const waiting = [held(places), held(places)];
  await expect(places.run(forever, turn)).rejects.toMatchObject({
    code: 'overloaded',
    message: '2 questions for MLflow at http://m wait already.',
  });
  first.resolve();
  await turn();
  expect(waiting.map(({ seen }) => seen.began)).toEqual([true, false]);
  expect(held(places).seen.began).toBe(false);
  await expect(places.run(forever, turn)).rejects.toMatchObject({ code: 'overloaded' });
});

test('a signal that aborts ends the wait at once, and gives its room back', async () => {
  const places = new Places('MLflow', { inFlight: 1, waiting: 1 });
  const first = held(places);
  const leave = new AbortController();
  const second = held(places, leave.signal);
  leave.abort(new Error('gone'));
  await expect(second.result).rejects.toThrow('gone');
  expect(second.seen.began).toBe(false);
  const third = held(places);
  first.resolve();
  await turn();
  expect(third.seen.began).toBe(true);
});

test('a signal that has aborted lets nothing begin', async () => {
  const places = new Places('MLflow', { inFlight: 1, waiting: 1 });
  await expect(places.run(AbortSignal.abort(new Error('gone')), turn)).rejects.toThrow('gone');
  await places.run(forever, turn);
});
