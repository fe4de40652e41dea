import { describe, expect, test } from 'vitest';
import { SidecarError } from '../../src/domain/errors.ts';
import type { Run } from '../../src/reload/run.ts';
import { Runs } from '../../src/reload/runs.ts';
import { LedRun } from './support.ts';

/** Joins, and keeps every run that had to be made for it. */
function joining() {
  const runs = new Runs();
  const made: LedRun[] = [];
  const make = (before: Run | null) => {
    const led = new LedRun(before);
    made.push(led);
    return led.run;
  };
  const at = (index: number): LedRun => {
    const led = made[index];
    if (led === undefined) throw new Error(`only ${made.length} runs were made`);
    return led;
  };
  return { runs, join: (key = 'a') => runs.join(key, make), made, at };
}

test('the first to come starts a run at once', () => {
  const { join, at } = joining();
  expect(join()).toBe(at(0).run);
  expect(at(0).started).toBe(1);
});

describe('whoever comes while the registry is asked', () => {
  test('joins the next question, all of them the same one, and it is not asked yet', () => {
    const { join, made, at } = joining();
    const first = join();
    const later = Array.from({ length: 99 }, () => join());
    expect(made).toHaveLength(2);
    expect(later.every(run => run === at(1).run && run !== first)).toBe(true);
    expect(at(1).started).toBe(0);
  });

  test('has the next question asked as soon as this one is answered', async () => {
    const { join, at } = joining();
    join();
    join();
    await at(0).resolve();
    expect(at(1).started).toBe(1);
  });

  test('has it asked as well where this one fails', async () => {
    const { join, at } = joining();
    join();
    join();
    await at(0).fail(new SidecarError('mlflow_timeout', 'slow'));
    expect(at(1).started).toBe(1);
  });

  test('is told what fails now, until its own question is asked', async () => {
    const { join, at } = joining();
    join();
    const waiting = join();
    const error = new SidecarError('mlflow_unreachable', 'refused');
    (await at(0).progress()).tryFailed(error);
    expect(waiting.lastFailure).toBe(error);
    await at(0).fail(error);
    expect(waiting.lastFailure).toBeNull();
  });

  test('does not wait for the download that follows this one’s answer', async () => {
    const { join, at } = joining();
    join();
    await at(0).resolve();
    expect(join()).toBe(at(1).run);
    expect(at(1).started).toBe(1);
    expect(at(0).run.isOver).toBe(false);
  });
});

test('at most one question is asked and one is waiting, however many come and however long it takes', async () => {
  const { join, made, at } = joining();
  for (let round = 0; round < 5; round++) {
    for (let n = 0; n < 20; n++) join();
    expect(made).toHaveLength(round + 2);
    expect(made.map(led => led.started)).toEqual([...Array.from({ length: round + 1 }, () => 1), 0]);
    await at(round).resolve();
  }
});

test('nobody gets an answer that is older than its call', async () => {
  const { join, at } = joining();
  join();
  const joined = join();
  await at(0).resolve();
  expect(at(1).run).toBe(joined);
  expect(join()).not.toBe(joined);
});

test('once all is answered the next one starts afresh', async () => {
  const { join, made, at } = joining();
  join();
  join();
  await at(0).resolve();
  await at(1).resolve();
  expect(join()).toBe(at(2).run);
  expect(made.map(led => led.started)).toEqual([1, 1, 1]);
});

test('a run that ends without a version, as when it is stopped, is gone on from', async () => {
  const { join, at } = joining();
  join();
  await at(0).fail(new Error('The sidecar is stopping.'));
  expect(join()).toBe(at(1).run);
  expect(at(1).started).toBe(1);
});

test('another key is another question', () => {
  const { join, made } = joining();
  join('a');
  join('b');
  expect(made.map(led => led.started)).toEqual([1, 1]);
});

test('who joined and what is in flight is counted; a run that waits for its turn is not in flight', async () => {
  const { runs, join, at } = joining();
  for (let i = 0; i < 5; i++) join();
  join('b');
  expect([runs.inFlight, runs.joined]).toEqual([2, 3]);
  await at(0).resolve();
  expect([runs.inFlight, runs.joined]).toEqual([3, 3]);
  await at(0).end();
  await at(1).fail(new SidecarError('mlflow_timeout', 'slow'));
  expect([runs.inFlight, runs.joined]).toEqual([1, 3]);
});

test('whoever comes when nobody wants the next question any more has one of their own', async () => {
  const { join, made, at } = joining();
  join();
  join().leave();
  expect(at(1).run.isStopped).toBe(true);
  const fresh = join();
  expect(made).toHaveLength(3);
  expect(fresh).toBe(at(2).run);
  await at(0).resolve();
  expect([at(1).started, at(2).started]).toEqual([0, 1]);
});
