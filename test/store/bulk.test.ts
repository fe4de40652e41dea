import { setImmediate as turn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { forEach, settleEach } from '../../src/store/disk/bulk.ts';

const MANY = Array.from({ length: 64 }, (_, n) => n);

test('twelve operations at once over all pieces of work, and eight of one', async () => {
  const { promise: hanging, resolve: goOn } = Promise.withResolvers<void>();
  const begun = [0, 0, 0];
  const works = begun.map((_, piece) =>
    settleEach(MANY, async () => {
      begun[piece] = (begun[piece] ?? 0) + 1;
      await hanging;
    }),
  );
  await turn();
  expect(begun).toEqual([8, 4, 0]);
  goOn();
  await Promise.all(works);
  expect(begun).toEqual([64, 64, 64]);
});

test('the first failure is told when all the others have ended', async () => {
  let ended = 0;
  const failing = forEach(MANY, async n => {
    await turn();
    ended++;
    if (n === 3) throw new Error('the third');
  });
  await expect(failing).rejects.toThrow('the third');
  expect(ended).toBe(MANY.length);
});
