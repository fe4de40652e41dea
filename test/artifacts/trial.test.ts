import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { onTrial } from '../../src/artifacts/trial.ts';

const FLOOR = { bytesPerSecond: 1_000, windowS: 30 };
const forever = new AbortController().signal;

beforeEach(() => {
  vi.useFakeTimers();
});

afterEach(() => {
  expect(vi.getTimerCount()).toBe(0);
  vi.useRealTimers();
});

/** Gives `chunk` bytes a second for so many seconds, from `afterS` on. */
async function* body(chunk: number, seconds: number, afterS: number): AsyncGenerator<Uint8Array> {
  await new Promise(resolve => setTimeout(resolve, afterS * 1_000));
  for (let n = 0; n < seconds; n++) {
    await new Promise(resolve => setTimeout(resolve, 1_000));
    yield new Uint8Array(chunk);
  }
}

/** Downloads it as a trial; when it was decided, in seconds, and how much came. */
async function trialOf(chunk: number, seconds: number, afterS = 0) {
  const startedAt = Date.now();
  const succeeded = vi.fn();
  let decidedS: number | null = null;
  const trial = {
    succeeded: () => {
      succeeded();
      decidedS = (Date.now() - startedAt) / 1_000;
    },
  };
  let bytes = 0;
  const downloading = onTrial(trial, FLOOR, forever, async (_, came) => {
    for await (const part of body(chunk, seconds, afterS)) {
      bytes += part.byteLength;
      came(part.byteLength);
    }
    return bytes;
  });
  const [result] = await Promise.all([downloading, vi.runAllTimersAsync()]);
  return { result, decidedS, calls: succeeded.mock.calls.length };
}

test('a file that comes above the floor decides after 30 s, and goes on', async () => {
  expect(await trialOf(2_000, 100)).toEqual({ result: 200_000, decidedS: 30, calls: 1 });
});

test('a file that is whole before that decides nothing early: its end does', async () => {
  expect(await trialOf(2_000, 10)).toEqual({ result: 20_000, decidedS: null, calls: 0 });
});

test('a file below the floor is no success at 30 s', async () => {
  expect(await trialOf(500, 40)).toEqual({ result: 20_000, decidedS: null, calls: 0 });
});

test('a file that came late is looked at again until it has brought the share of 30 s', async () => {
  expect(await trialOf(12_000, 100, 28)).toEqual({ result: 1_200_000, decidedS: 32, calls: 1 });
});

test('where no byte came within 30 s it ends with artifact_timeout, which counts against the server', async () => {
  const trial = { succeeded: vi.fn() };
  const waiting = onTrial(
    trial,
    FLOOR,
    forever,
    signal => new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
  );
  const expected = expect(waiting).rejects.toMatchObject({ code: 'artifact_timeout', serverFault: true });
  await vi.advanceTimersByTimeAsync(29_999);
  expect(trial.succeeded).not.toHaveBeenCalled();
  await vi.advanceTimersByTimeAsync(1);
  await expected;
});

test('what is no trial is neither counted nor timed', async () => {
  const fetch = vi.fn(async (signal: AbortSignal, came: (bytes: number) => void) => [signal, came(1)]);
  expect(await onTrial(null, FLOOR, forever, fetch)).toEqual([forever, undefined]);
  expect(vi.getTimerCount()).toBe(0);
});
