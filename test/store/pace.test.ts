import { expect, test } from 'vitest';
import { Pace } from '../../src/store/verify/pace.ts';

const MIB = 1024 * 1024;

/** Reads `bytes` in chunks, each in `readMs`, and rests as told; the time that it took. */
function timeFor(pace: Pace, bytes: number, readMs: number): number {
  let now = 0;
  for (let read = 0; read < bytes; read += MIB / 8) {
    now += readMs;
    now += pace.restAfter(MIB / 8, now);
  }
  return now;
}

test('a disk that is quicker than the rate is held to it', () => {
  expect(timeFor(new Pace(8 * MIB), 80 * MIB, 0)).toBeCloseTo(10_000);
  expect(timeFor(new Pace(8 * MIB), 80 * MIB, 1)).toBeGreaterThanOrEqual(10_000);
});

test('20 GiB take less than 45 min', () => {
  expect(timeFor(new Pace(8 * MIB), 20 * 1024 * MIB, 0)).toBeLessThanOrEqual(45 * 60_000);
});

test('time that was lost is not made up for', () => {
  const pace = new Pace(MIB);
  pace.restAfter(MIB, 0);
  expect(pace.restAfter(MIB, 3_600_000)).toBeCloseTo(1_000);
});

test('rests that were not taken add up', () => {
  const pace = new Pace(MIB);
  pace.restAfter(MIB / 2, 0);
  expect(pace.restAfter(MIB / 2, 0)).toBeCloseTo(1_000);
});

test('without a rate there is no rest', () => {
  expect(timeFor(new Pace(Number.POSITIVE_INFINITY), 80 * MIB, 0)).toBe(0);
});
