import { describe, expect, test } from 'vitest';
import { afterSetBack, nextDue, offsetOf, periodOf } from '../../src/prewarm/plan.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

test('a schedule’s period is the shortest time between two of its times', () => {
  expect(periodOf([0, 9 * HOUR, 10 * HOUR, 24 * HOUR])).toBe(HOUR);
  expect(periodOf([7])).toBe(Number.POSITIVE_INFINITY);
});

describe('the jitter', () => {
  const CASES: readonly [string, number, number, number][] = [
    ['a minute', MINUTE, -6_000, 6_000],
    ['five minutes', 5 * MINUTE, -30_000, 30_000],
    ['eight minutes', 8 * MINUTE, -12_000, 48_000],
    ['ten minutes', 10 * MINUTE, 0, 60_000],
    ['a day', 24 * HOUR, 0, 60_000],
    ['a single time', Number.POSITIVE_INFINITY, 0, 60_000],
  ];
  test.each(CASES)('with a period of %s', (_name, period, first, last) => {
    expect([offsetOf(period, 0), offsetOf(period, 1)].map(ms => ms + 0)).toEqual([first, last]);
    for (let share = 0; share <= 1; share += 0.01) {
      expect(Math.abs(offsetOf(period, share))).toBeLessThanOrEqual(Math.min(period / 10, MINUTE));
    }
  });
});

describe('what is due next', () => {
  test('is the first time that is to come, with the offset', () => {
    expect(nextDue([1_000, 2_000], 100, 900)).toEqual({ at: 1_100, slot: 1_000 });
  });

  test('is a time that has gone by, where its offset has not', () => {
    expect(nextDue([1_000, 2_000], 100, 1_050)).toEqual({ at: 1_100, slot: 1_000 });
  });

  test('is not what was served just now, ahead of its time', () => {
    expect(nextDue([1_000, 2_000], -100, 900)).toEqual({ at: 1_900, slot: 2_000 });
  });

  test('is nothing, for a schedule that has come to its end', () => {
    expect(nextDue([], 0, 0)).toBeNull();
  });
});

describe('after the clock was set back', () => {
  test('what the new time has due sooner is taken', () => {
    expect(afterSetBack({ at: 10_000, slot: 10_000 }, 3_000, { at: 6_000, slot: 6_000 })).toEqual({
      at: 6_000,
      slot: 6_000,
    });
  });

  test('it does not take longer than it would have', () => {
    expect(afterSetBack({ at: 10_000, slot: 10_000 }, 3_000, { at: 8_000, slot: 8_000 })).toEqual({
      at: 7_000,
      slot: null,
    });
    expect(afterSetBack({ at: 10_000, slot: 10_000 }, 3_000, null)).toEqual({ at: 7_000, slot: null });
  });
});
