import { setTimeout as delay } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { BackgroundSaves } from '../../src/store/records/background-saves.ts';

test('the first save starts at once, the next a second later, with all that was wished meanwhile', async () => {
  const saves = new BackgroundSaves();
  let started = 0;
  const wish = () => saves.schedule('ref', () => started++);
  wish();
  expect(started).toBe(1);
  for (let n = 0; n < 100; n++) wish();
  expect(started).toBe(1);
  await expect.poll(() => started).toBe(2);
  await delay(100);
  expect(started).toBe(2);
});

test('different things do not wait for each other', () => {
  const saves = new BackgroundSaves();
  const started: string[] = [];
  for (const key of ['a', 'b', 'a', 'c']) saves.schedule(key, () => started.push(key));
  expect(started).toEqual(['a', 'b', 'c']);
});

test('in a hurry everything that is due starts, once', async () => {
  const saves = new BackgroundSaves();
  const started: string[] = [];
  for (const key of ['a', 'b', 'a', 'b']) saves.schedule(key, () => started.push(key));
  saves.hurry();
  expect(started).toEqual(['a', 'b', 'a', 'b']);
  await delay(1_200);
  expect(started).toHaveLength(4);
});

test('at most four are on the disk at a time', async () => {
  const saves = new BackgroundSaves();
  const { promise, resolve } = Promise.withResolvers<void>();
  let running = 0;
  const all = Array.from({ length: 10 }, () =>
    saves.save(() => {
      running += 1;
      return promise;
    }),
  );
  await new Promise(turn => setImmediate(turn));
  expect(running).toBe(4);
  resolve();
  await Promise.all(all);
  expect(running).toBe(10);
});
