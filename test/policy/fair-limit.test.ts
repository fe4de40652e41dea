import { setImmediate as turn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { FairLimit, type Slots } from '../../src/policy/fair-limit.ts';

/** A run that asks for so many slots and keeps what it gets until it is told to let one go. */
function hanging(slots: Slots, wants: number, signal = new AbortController().signal) {
  const ends: (() => void)[] = [];
  const done = Array.from({ length: wants }, () =>
    slots.use(signal, () => new Promise<void>(resolve => void ends.push(resolve))),
  );
  return { held: () => ends.length, ends, done: Promise.allSettled(done) };
}

test('a run that is alone holds 12 of 16, and a second and a third find slots at once', async () => {
  const limit = new FairLimit(16);
  const runs = [1, 2, 3].map(() => hanging(limit.forRun(), 20));
  await turn();
  expect(runs.map(run => run.held())).toEqual([12, 3, 1]);
});

test('a slot that becomes free goes to whoever holds least', async () => {
  const limit = new FairLimit(16);
  const [large, small] = [hanging(limit.forRun(), 20), hanging(limit.forRun(), 20)];
  await turn();
  for (let n = 0; n < 4; n++) {
    large.ends[n]?.();
    await turn();
    await turn();
  }
  // It began 12 and ended 4 of them.
  expect(large.held() - 4).toBe(8);
  expect(small.held()).toBeGreaterThanOrEqual(6);
});

test('a limit of one works', async () => {
  const order: number[] = [];
  const slots = new FairLimit(1).forRun();
  const { signal } = new AbortController();
  await Promise.all([1, 2, 3].map(n => slots.use(signal, async () => void order.push(n))));
  expect(order).toEqual([1, 2, 3]);
});

test('whoever gives up waiting is told why, and takes no slot', async () => {
  const limit = new FairLimit(1);
  const first = hanging(limit.forRun(), 1);
  const leaving = new AbortController();
  const slots = limit.forRun();
  const waiting = slots.use(leaving.signal, async () => 'never');
  leaving.abort(new Error('over'));
  await expect(waiting).rejects.toThrow('over');
  first.ends[0]?.();
  await first.done;
  await expect(slots.use(new AbortController().signal, async () => 'free')).resolves.toBe('free');
});

test('a slot is free again after work that failed', async () => {
  const slots = new FairLimit(1).forRun();
  const { signal } = new AbortController();
  const fails = slots.use(signal, async () => {
    throw new Error('broke');
  });
  await expect(fails).rejects.toThrow('broke');
  await expect(slots.use(signal, async () => 'free')).resolves.toBe('free');
});

test('a slot that is given back before the work ends is another’s at once, and is given back once', async () => {
  const slots = new FairLimit(1).forRun();
  const { signal } = new AbortController();
  const ending = Promise.withResolvers<void>();
  const first = slots.use(signal, async giveBack => {
    giveBack();
    giveBack();
    await ending.promise;
  });
  let isHeld = true;
  const second = slots.use(signal, () => new Promise<void>(resolve => setTimeout(resolve, 20)));
  await slots.use(signal, async () => {
    isHeld = false;
  });
  expect(isHeld).toBe(false);
  await second;
  ending.resolve();
  await first;
  await expect(slots.use(signal, async () => 'free')).resolves.toBe('free');
});
