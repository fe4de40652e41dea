import { expect, test } from 'vitest';
import { Allowance } from '../../src/policy/allowance.ts';

test('as many are given as there are, and again what was given back', () => {
  const allowance = new Allowance(2);
  expect([allowance.take(), allowance.take(), allowance.take()]).toEqual([true, true, false]);
  allowance.giveBack();
  expect([allowance.take(), allowance.take()]).toEqual([true, false]);
});
