import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, test, vi } from 'vitest';
import { SingleFlight } from '../../src/policy/single-flight.ts';

const never = new AbortController().signal;

describe('join', () => {
  test('a hundred callers for one key are one piece of work', async () => {
    const flight = new SingleFlight<number>();
    const start = vi.fn(async () => {
      await turn();
      return 7;
    });
    const all = await Promise.all(Array.from({ length: 100 }, () => flight.join('a', start)));
    expect(start).toHaveBeenCalledTimes(1);
    expect(new Set(all)).toEqual(new Set([7]));
  });

  test('different keys are different work', async () => {
    const flight = new SingleFlight<string>();
    const all = await Promise.all(['a', 'b'].map(key => flight.join(key, async () => key)));
    expect(all).toEqual(['a', 'b']);
  });

  test('whoever comes after the end starts again, also after a failure', async () => {
    const flight = new SingleFlight<number>();
    await expect(flight.join('a', () => Promise.reject(new Error('bad')))).rejects.toThrow('bad');
    await expect(flight.join('a', async () => 1)).resolves.toBe(1);
    await expect(flight.join('a', async () => 2)).resolves.toBe(2);
  });
});

describe('joinOrRedo', () => {
  test('takes the other’s result where it succeeds', async () => {
    const flight = new SingleFlight<string>();
    const { promise, resolve } = Promise.withResolvers<string>();
    const redo = vi.fn(async () => 'mine');
    const first = flight.joinOrRedo('a', never, () => promise);
    const second = flight.joinOrRedo('a', never, redo);
    resolve('theirs');
    await expect(Promise.all([first, second])).resolves.toEqual(['theirs', 'theirs']);
    expect(redo).not.toHaveBeenCalled();
  });

  test('does the work again, once, for all who waited on a starter that failed', async () => {
    const flight = new SingleFlight<string>();
    const { promise, reject } = Promise.withResolvers<string>();
    const first = flight.joinOrRedo('a', never, () => promise);
    const redo = vi.fn(async () => {
      await turn();
      return 'redone';
    });
    const others = Array.from({ length: 10 }, () => flight.joinOrRedo('a', never, redo));
    reject(new Error('the starter was cancelled'));
    await expect(first).rejects.toThrow('the starter was cancelled');
    expect(new Set(await Promise.all(others))).toEqual(new Set(['redone']));
    expect(redo).toHaveBeenCalledTimes(1);
  });

  test('whoever leaves leaves at once, and the others go on', async () => {
    const flight = new SingleFlight<string>();
    const { promise, resolve } = Promise.withResolvers<string>();
    const first = flight.joinOrRedo('a', never, () => promise);
    const leaving = new AbortController();
    const second = flight.joinOrRedo('a', leaving.signal, async () => 'mine');
    leaving.abort(new Error('left'));
    await expect(second).rejects.toThrow('left');
    resolve('theirs');
    await expect(first).resolves.toBe('theirs');
  });

  test('a failure of one’s own work is one’s own', async () => {
    const flight = new SingleFlight<string>();
    await expect(flight.joinOrRedo('a', never, () => Promise.reject(new Error('own')))).rejects.toThrow(
      'own',
    );
  });
});
