import { expect, test } from 'vitest';
import { SidecarError } from '../../src/domain/errors.ts';
import { isGiven, type Outcome, OutcomeSchema, warningOf, worstOf } from '../../src/domain/outcome.ts';
import { outcome } from '../support/outcome.ts';

const LOADED = outcome();

function named(status: Outcome['status'], requestId: string): Outcome {
  return { ...LOADED, status, request_id: requestId };
}

test('from the worst to the best: failed, missing, stale, loaded, unchanged', () => {
  const order = ['failed', 'missing', 'stale', 'loaded', 'unchanged'] as const;
  for (const [rank, worse] of order.entries()) {
    for (const better of order.slice(rank)) {
      expect(worstOf([named(better, 'b'), named(worse, 'w')]).status).toBe(worse);
      expect(worstOf([named(worse, 'w'), named(better, 'b')]).request_id).toBe('w');
    }
  }
});

test('of several that are equally bad the first one speaks', () => {
  expect(worstOf([named('loaded', 'a'), named('stale', 'b'), named('stale', 'c')]).request_id).toBe('b');
});

test('the fields are the promised ones, no more and no fewer', () => {
  expect(OutcomeSchema.parse(LOADED)).toEqual(LOADED);
  expect(Object.keys(OutcomeSchema.shape).toSorted()).toEqual(Object.keys(LOADED).toSorted());
});

test('an outcome without a path has given nothing', () => {
  expect(isGiven(LOADED)).toBe(true);
  expect(isGiven({ ...LOADED, path: null })).toBe(false);
});

test('a warning has the code, the message and the hint of its error', () => {
  const error = new SidecarError('mlflow_timeout', 'too slow', { hint: 'wait' });
  expect(warningOf(error)).toEqual({ code: 'mlflow_timeout', message: 'too slow', hint: 'wait' });
  expect(warningOf(new SidecarError('internal', 'x')).hint).toBeNull();
});
