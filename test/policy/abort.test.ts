import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { delay, TOO_LATE, untilAborted, within, withTimeout } from '../../src/policy/abort.ts';
import { atMost } from '../support/limits.ts';

const never = new AbortController().signal;

function timers(): number {
  return process.getActiveResourcesInfo().filter(kind => kind === 'Timeout').length;
}

async function elapsed(work: Promise<unknown>): Promise<number> {
  const startedAt = performance.now();
  await work.catch(() => undefined);
  return performance.now() - startedAt;
}

/** Heeds its signal and does nothing else. */
function silent(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) =>
    signal.addEventListener('abort', () => reject(new Error('its own words'))),
  );
}

describe('withTimeout', () => {
  const late = () => new Error('late');

  test('gives the value and leaves no timer behind', async () => {
    const before = timers();
    await expect(withTimeout(60_000, never, late, async () => 1)).resolves.toBe(1);
    expect(timers()).toBe(before);
  });

  test('passes the work’s own error on and leaves no timer behind', async () => {
    const before = timers();
    await expect(withTimeout(60_000, never, late, () => Promise.reject(new Error('own')))).rejects.toThrow(
      'own',
    );
    expect(timers()).toBe(before);
  });

  test('aborts the work after its time, and tells the timeout rather than the work’s words', async () => {
    await expect(withTimeout(20, never, late, silent)).rejects.toThrow('late');
  });

  test('tells the parent’s reason when that aborts first', async () => {
    const parent = new AbortController();
    const done = withTimeout(60_000, parent.signal, late, silent);
    parent.abort(new Error('parent'));
    await expect(done).rejects.toThrow('parent');
  });

  test('does not start under a parent that has aborted', async () => {
    let started = false;
    const work = async () => {
      started = true;
    };
    await expect(withTimeout(1_000, AbortSignal.abort(new Error('parent')), late, work)).rejects.toThrow(
      'parent',
    );
    expect(started).toBe(false);
  });

  test('leaves no listener on its parent', async () => {
    const parent = new AbortController();
    let warned = 0;
    const count = () => warned++;
    process.on('warning', count);
    for (let n = 0; n < 100; n++) await withTimeout(1_000, parent.signal, late, async () => n);
    await sleep(5);
    process.off('warning', count);
    expect(warned).toBe(0);
  });
});

describe('delay', () => {
  test('waits about as long as it is told', async () => {
    const ms = await elapsed(delay(30, never));
    expect(ms).toBeGreaterThan(25);
    expect(ms).toBeLessThan(atMost(1_000));
  });

  test('wakes at once on abort, with the reason, and leaves no timer behind', async () => {
    const before = timers();
    const controller = new AbortController();
    const waiting = delay(60_000, controller.signal);
    controller.abort(new Error('wake'));
    expect(await elapsed(waiting)).toBeLessThan(atMost(100));
    await expect(waiting).rejects.toThrow('wake');
    expect(timers()).toBe(before);
  });

  test('does not begin under a signal that has aborted', async () => {
    await expect(delay(60_000, AbortSignal.abort(new Error('gone')))).rejects.toThrow('gone');
  });
});

describe('within', () => {
  test('gives what the promise gives, without a timer left', async () => {
    const before = timers();
    await expect(within(60_000, Promise.resolve('x'))).resolves.toBe('x');
    await expect(within(60_000, Promise.reject(new Error('bad')))).rejects.toThrow('bad');
    expect(timers()).toBe(before);
  });

  test.each([0, -5, 10])('is too late after %d ms', async ms => {
    await expect(within(ms, new Promise(() => undefined))).resolves.toBe(TOO_LATE);
  });

  test('gives a value that is there already even where no time is left', async () => {
    await expect(within(-1, Promise.resolve('x'))).resolves.toBe('x');
  });

  test('a promise that fails afterwards is nobody’s unhandled rejection', async () => {
    const { promise, reject } = Promise.withResolvers<never>();
    await expect(within(1, promise)).resolves.toBe(TOO_LATE);
    reject(new Error('later'));
    await sleep(5);
  });
});

describe('untilAborted', () => {
  test('gives what the promise gives', async () => {
    await expect(untilAborted(Promise.resolve('x'), never)).resolves.toBe('x');
  });

  test('leaves a promise that never settles when its own signal aborts', async () => {
    const controller = new AbortController();
    const waiting = untilAborted(new Promise(() => undefined), controller.signal);
    controller.abort(new Error('left'));
    await expect(waiting).rejects.toThrow('left');
  });

  test('does not wait at all under a signal that has aborted', async () => {
    await expect(untilAborted(Promise.resolve('x'), AbortSignal.abort(new Error('left')))).rejects.toThrow(
      'left',
    );
  });
});
