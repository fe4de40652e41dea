import { stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { expect, onTestFinished, test, vi } from 'vitest';
import { TOO_LATE } from '../../src/policy/abort.ts';
import { DiskWatch } from '../../src/policy/disk-watch.ts';

/** Time passes when it is told to. */
function start() {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setImmediate'] });
  onTestFinished(() => {
    vi.useRealTimers();
  });
  return { watch: new DiskWatch(), pass: (ms: number) => vi.advanceTimersByTimeAsync(ms) };
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
  const { watch, pass } = start();
  const disk = slowDisk();
  const first = watch.ask('a', disk.question);
  expect(watch.isHanging).toBe(false);
  await pass(190);
  expect(watch.isHanging).toBe(false);
  await pass(20);
  expect(watch.isHanging).toBe(true);
  const other = slowDisk();
  expect(await watch.ask('a', disk.question)).toBe(TOO_LATE);
  expect(await watch.ask('b', other.question)).toBe(TOO_LATE);
  expect([disk.asked(), other.asked()]).toEqual([1, 0]);
  expect(await first).toBe(TOO_LATE);
});

test('once it has answered it is asked again', async () => {
  const { watch, pass } = start();
  const disk = slowDisk();
  const first = watch.ask('a', disk.question);
  await pass(10_000);
  expect(await first).toBe(TOO_LATE);
  disk.answer(true);
  await pass(0);
  expect(watch.isHanging).toBe(false);
  expect(await watch.ask('a', async () => false)).toBe(false);
});

test('at most four questions are with the disk at a time', async () => {
  const { watch, pass } = start();
  const disk = slowDisk();
  const answers = Promise.all(['a', 'b', 'c', 'd', 'e', 'f'].map(key => watch.ask(key, disk.question)));
  await pass(0);
  expect(disk.asked()).toBe(4);
  disk.answer(true);
  expect(await answers).toEqual([true, true, true, true, true, true]);
  expect(disk.asked()).toBe(6);
});

test('a question that was answered leaves no timer', async () => {
  const { watch } = start();
  expect(await watch.ask('a', async () => true)).toBe(true);
  expect(vi.getTimerCount()).toBe(0);
});

test('an event loop that was busy passes for no disk that hangs', async () => {
  const watch = new DiskWatch();
  const there = () =>
    stat(tmpdir())
      .then(() => stat(tmpdir()))
      .then(() => true);
  const answers = ['a', 'b', 'c', 'd', 'e', 'f'].map(key => watch.ask(key, there));
  const until = performance.now() + 250;
  while (performance.now() < until);
  expect(watch.isHanging).toBe(false);
  expect(await Promise.all(answers)).toEqual([true, true, true, true, true, true]);
});
