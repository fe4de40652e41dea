import { expect, test } from 'vitest';
import { SidecarError } from '../../src/domain/errors.ts';
import { LedRun, RESOLUTION } from './support.ts';

test('a run does nothing before it is started', () => {
  const led = new LedRun();
  expect(led.started).toBe(0);
  expect(led.run.isOver).toBe(false);
});

test('it tells the version first and the result later', async () => {
  const led = new LedRun();
  void led.run.start();
  await led.resolve();
  await expect(led.run.resolved).resolves.toBe(RESOLUTION);
  expect(led.run.resolution).toBe(RESOLUTION);
  expect(led.run.isOver).toBe(false);
  await led.end({ status: 'unchanged', source: 'cache' });
  await expect(led.run.done).resolves.toEqual({ status: 'unchanged', source: 'cache' });
  expect(led.run.isOver).toBe(true);
});

test('a failure before the version is known fails both', async () => {
  const led = new LedRun();
  void led.run.start();
  const error = new SidecarError('mlflow_timeout', 'slow');
  await led.fail(error);
  await expect(led.run.resolved).rejects.toBe(error);
  await expect(led.run.done).rejects.toBe(error);
  expect(led.run.resolution).toBeNull();
  expect(led.run.isOver).toBe(true);
});

test('a failure after the version is known leaves the version', async () => {
  const led = new LedRun();
  void led.run.start();
  await led.resolve();
  await led.fail(new SidecarError('artifact_missing', 'gone'));
  await expect(led.run.resolved).resolves.toBe(RESOLUTION);
  await expect(led.run.done).rejects.toMatchObject({ code: 'artifact_missing' });
});

test('an error that nobody foresaw is internal', async () => {
  const led = new LedRun();
  void led.run.start();
  await led.fail(new TypeError('oh'));
  await expect(led.run.done).rejects.toMatchObject({ code: 'internal', message: 'oh' });
});

test('a run that fails with nobody waiting is nobody’s unhandled rejection', async () => {
  const led = new LedRun();
  await Promise.all([led.run.start(), led.fail(new Error('alone'))]);
});

test('it counts the tries of the most retried request and keeps the last failure', async () => {
  const led = new LedRun();
  void led.run.start();
  const progress = await led.progress();
  for (const attempt of [1, 2, 3, 1]) progress.tried(attempt);
  progress.tryFailed(new SidecarError('mlflow_error', 'first'));
  progress.tryFailed(new SidecarError('mlflow_timeout', 'second'));
  progress.took({ resolve: 5 });
  progress.took({ list: 7, fetch: 9 });
  expect(led.run.attempts).toBe(3);
  expect(led.run.lastFailure?.message).toBe('second');
  expect(led.run.phases).toEqual({ resolve: 5, list: 7, fetch: 9 });
  await led.end();
});

test('the last failure is that of the download that it waits for, as far as that has any', async () => {
  const led = new LedRun();
  void led.run.start();
  const progress = await led.progress();
  progress.tryFailed(new SidecarError('mlflow_error', 'of the registry'));
  const failures: { last: SidecarError | null } = { last: null };
  progress.follow(failures);
  expect(led.run.lastFailure?.message).toBe('of the registry');
  failures.last = new SidecarError('artifact_corrupt', 'of a file');
  expect(led.run.lastFailure?.message).toBe('of a file');
  await led.end();
});

test('it stops when the last of those who want it has left, and not before', () => {
  const led = new LedRun();
  void led.run.start();
  led.run.join();
  led.run.join();
  led.run.leave();
  expect([led.run.isStopped, led.stopped?.aborted]).toEqual([false, false]);
  led.run.leave();
  expect([led.run.isStopped, led.stopped?.aborted]).toEqual([true, true]);
});

test('what is over cannot be stopped', async () => {
  const led = new LedRun();
  led.run.join();
  await Promise.all([led.run.start(), led.end()]);
  led.run.leave();
  expect(led.run.isStopped).toBe(false);
});
