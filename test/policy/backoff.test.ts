import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { backoffMs, parseRetryAfter } from '../../src/policy/backoff.ts';

const attempt = fc.integer({ min: 1, max: 10_000 });
const random = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });

test('a wait is always between 2 s and min(10 s, 2·2ⁿ s)', () => {
  fc.assert(
    fc.property(attempt, random, (n, r) => {
      const ms = backoffMs(n, r, null);
      expect(ms).toBeGreaterThanOrEqual(2_000);
      expect(ms).toBeLessThanOrEqual(Math.min(10_000, 2_000 * 2 ** n));
    }),
  );
});

test('whatever a server asks for, a wait is at most 10 s and never shorter than the jittered one', () => {
  const retryAfterS = fc.oneof(fc.double({ min: 0, noNaN: true }), fc.nat(1_000));
  fc.assert(
    fc.property(attempt, random, retryAfterS, (n, r, s) => {
      const ms = backoffMs(n, r, s);
      expect(ms).toBeLessThanOrEqual(10_000);
      expect(ms).toBeGreaterThanOrEqual(backoffMs(n, r, null));
      expect(ms).toBeGreaterThanOrEqual(Math.min(10, s) * 1_000);
    }),
  );
});

test('the whole range is used', () => {
  expect(backoffMs(1, 0, null)).toBe(2_000);
  expect(backoffMs(1, 0.5, null)).toBe(3_000);
  expect(backoffMs(2, 0.999_999, null)).toBeCloseTo(8_000, 0);
  expect(backoffMs(3, 0.999_999, null)).toBeCloseTo(10_000, 0);
  expect(backoffMs(1, 0, 7)).toBe(7_000);
  expect(backoffMs(1, 0, 60)).toBe(10_000);
});

describe('Retry-After', () => {
  const NOW = Date.parse('2026-11-23T02:00:00Z');

  test.each([
    ['5', 5],
    [' 7 ', 7],
    ['0', 0],
    ['86400', 86_400],
    ['Mon, 23 Nov 2026 02:00:04 GMT', 4],
    ['Mon, 23 Nov 2026 01:00:00 GMT', 0],
  ])('%j asks for %d s', (header, seconds) => {
    expect(parseRetryAfter(header, NOW)).toBe(seconds);
  });

  test.each([undefined, '', 'soon', 'tomorrow', 'NaN', '{}'])('%j says nothing', header => {
    expect(parseRetryAfter(header, NOW)).toBeNull();
  });

  test('no header at all can lead to a wait of more than 10 s, or to none', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.nat().map(String), fc.date().map(String)), header => {
        const ms = backoffMs(1, 0, parseRetryAfter(header, NOW));
        expect(ms).toBeGreaterThanOrEqual(2_000);
        expect(ms).toBeLessThanOrEqual(10_000);
      }),
    );
  });
});
