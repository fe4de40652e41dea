import { expect, test } from 'vitest';
import { mapBounded } from '../../src/policy/bounded.ts';

const soon = (ms: number) => new Promise<void>(resolve => setTimeout(resolve, ms));

test('results keep the order of the items, and no more than so many are under way', async () => {
  let underWay = 0;
  let most = 0;
  const doubled = await mapBounded([5, 1, 4, 2, 3], 2, async n => {
    underWay += 1;
    most = Math.max(most, underWay);
    await soon(n);
    underWay -= 1;
    return 2 * n;
  });
  expect(doubled).toEqual([10, 2, 8, 4, 6]);
  expect(most).toBe(2);
});

test('after a failure nothing more is begun, and what was begun has ended when it is told', async () => {
  const begun: number[] = [];
  const ended: number[] = [];
  const work = async (n: number) => {
    begun.push(n);
    await soon(n === 1 ? 1 : 20);
    if (n === 1) throw new Error('one');
    ended.push(n);
  };
  await expect(mapBounded([1, 2, 3, 4, 5], 2, work)).rejects.toThrow('one');
  expect(begun).toEqual([1, 2]);
  expect(ended).toEqual([2]);
});
