import { expect, test } from 'vitest';
import { atOnce, inSlices, type Steps } from '../../src/policy/slices.ts';

/** Takes so many milliseconds a step. */
function* work(steps: number, ms: number): Steps<number> {
  for (let step = 0; step < steps; step++) {
    const until = performance.now() + ms;
    while (performance.now() < until);
    yield;
  }
  return steps;
}

test('long work lets others have a turn, again and again, and gives the same result', async () => {
  let turns = 0;
  const others = setInterval(() => turns++, 1);
  expect(await inSlices(work(100, 2))).toBe(100);
  clearInterval(others);
  expect(turns).toBeGreaterThan(10);
});

test('at once it lets nobody', () => {
  let turns = 0;
  setImmediate(() => turns++);
  expect(atOnce(work(5, 2))).toBe(5);
  expect(turns).toBe(0);
});

test('many pieces of work at once share a slice in each turn, and all come to their end', async () => {
  let turns = 0;
  let isOver = false;
  const count = () => {
    turns += 1;
    if (!isOver) setImmediate(count);
  };
  setImmediate(count);
  const all = Array.from({ length: 40 }, () => inSlices(work(10, 2)));
  expect(await Promise.all(all)).toEqual(all.map(() => 10));
  isOver = true;
  // With a slice for each of them in a turn they were 3.
  expect(turns).toBeGreaterThan(30);
});
