import { expect, test } from 'vitest';
import { TOO_LATE } from '../../src/policy/abort.ts';
import { DiskWatch } from '../../src/policy/disk-watch.ts';
import { ManualClock } from '../reload/support.ts';

function start() {
  const clock = new ManualClock();
  return { clock, watch: new DiskWatch(clock) };
}

/** A disk that answers when it is told to. */
function slowDisk() {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  let asked = 0;
  const question = () => {
    asked += 1;
    return promise;
  };
  return { question, answer: resolve, asked: () => asked };
}

test('what the disk says is given', async () => {
  const { watch } = start();
  expect(await watch.ask('a', async () => true)).toBe(true);
  expect(await watch.ask('a', async () => false)).toBe(false);
  expect(watch.isHanging).toBe(false);
});

test('whoever asks the same meanwhile gets the same answer', async () => {
  const { watch } = start();
  const disk = slowDisk();
  const answers = Promise.all([1, 2, 3].map(() => watch.ask('a', disk.question)));
  disk.answer(true);
  expect(await answers).toEqual([true, true, true]);
  expect(disk.asked()).toBe(1);
});

test('a disk that does not answer is waited for once, and whoever asks for anything then is not kept waiting', async () => {
  const { watch, clock } = start();
  const disk = slowDisk();
  const first = watch.ask('a', disk.question);
  expect(watch.isHanging).toBe(false);
  clock.advance(200);
  expect(watch.isHanging).toBe(true);
  const other = slowDisk();
  expect(await watch.ask('a', disk.question)).toBe(TOO_LATE);
  expect(await watch.ask('b', other.question)).toBe(TOO_LATE);
  expect([disk.asked(), other.asked()]).toEqual([1, 0]);
  expect(await first).toBe(TOO_LATE);
});

test('once it has answered it is asked again', async () => {
  const { watch, clock } = start();
  const disk = slowDisk();
  const first = watch.ask('a', disk.question);
  clock.advance(10_000);
  disk.answer(true);
  await first;
  expect(watch.isHanging).toBe(false);
  expect(await watch.ask('a', async () => false)).toBe(false);
});

test('at most four questions are with the disk at a time', async () => {
  const { watch } = start();
  const disk = slowDisk();
  const answers = Promise.all(['a', 'b', 'c', 'd', 'e', 'f'].map(key => watch.ask(key, disk.question)));
  await new Promise(resolve => setImmediate(resolve));
  expect(disk.asked()).toBe(4);
  disk.answer(true);
  expect(await answers).toEqual([true, true, true, true, true, true]);
  expect(disk.asked()).toBe(6);
});
