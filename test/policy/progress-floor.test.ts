import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { isBelowFloor, ProgressFloor } from '../../src/policy/progress-floor.ts';

const LIMITS = { bytesPerSecond: 100, windowS: 3 };

describe('a window of seconds', () => {
  test.each([
    ['nothing yet', [], false],
    ['not a whole window', [0, 0], false],
    ['a whole window without a byte', [0, 0, 0], true],
    ['a whole window just below', [100, 100, 99], true],
    ['a whole window at the floor', [100, 100, 100], false],
    ['one good second that makes up for the others', [300, 0, 0], false],
  ])('%s', (_, bytes, below) => {
    expect(isBelowFloor(bytes, LIMITS)).toBe(below);
  });
});

/** Goes with the faked timers. */
const FAKED = { now: () => Date.now(), monotonic: () => Date.now() };

describe('a transfer', () => {
  let trips = 0;
  let floor: ProgressFloor;

  beforeEach(() => {
    vi.useFakeTimers();
    trips = 0;
    floor = new ProgressFloor(LIMITS, () => trips++, FAKED);
  });

  afterEach(() => {
    floor.stop();
    vi.useRealTimers();
  });

  /** So many chunks, one every so many milliseconds. */
  async function* chunks(count: number, size: number, everyMs: number): AsyncGenerator<Uint8Array> {
    for (let n = 0; n < count; n++) {
      await new Promise(resolve => setTimeout(resolve, everyMs));
      yield new Uint8Array(size);
    }
  }

  async function read(body: AsyncIterable<Uint8Array>, pauseMs = 0): Promise<number> {
    let bytes = 0;
    for await (const chunk of floor.watch(body)) {
      bytes += chunk.byteLength;
      if (pauseMs > 0) await new Promise(resolve => setTimeout(resolve, pauseMs));
    }
    return bytes;
  }

  test('that is taken as it comes trips once a whole window brought too little, and not after its end', async () => {
    const slow = floor.begin();
    await vi.advanceTimersByTimeAsync(2_900);
    slow.came(10);
    expect(trips).toBe(0);
    await vi.advanceTimersByTimeAsync(200);
    expect(trips).toBe(1);
    slow.end(false);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(trips).toBe(1);
  });

  test('that is taken as it comes and is whole is progress', async () => {
    for (let n = 0; n < 10; n++) {
      const tiny = floor.begin();
      await vi.advanceTimersByTimeAsync(900);
      tiny.came(1);
      tiny.end(true);
    }
    expect(trips).toBe(0);
  });

  test('that comes at the floor goes through whole', async () => {
    const reading = read(chunks(20, 60, 500));
    await vi.advanceTimersByTimeAsync(11_000);
    await expect(reading).resolves.toBe(1_200);
    expect(trips).toBe(0);
  });

  test('of tiny bodies that come to their ends is progress', async () => {
    for (let n = 0; n < 12; n++) {
      const reading = read(chunks(1, 1, 600));
      await vi.advanceTimersByTimeAsync(600);
      await expect(reading).resolves.toBe(1);
    }
    expect(trips).toBe(0);
  });

  test('that trickles in step with the ticks trips all the same', async () => {
    async function* inStep(): AsyncGenerator<Uint8Array> {
      for (;;) {
        await new Promise(resolve => setTimeout(resolve, 990));
        yield new Uint8Array(1);
      }
    }
    // The reader is busy for the 10 ms before every tick, and waits for the rest of each second.
    void read(inStep(), 10);
    await vi.advanceTimersByTimeAsync(5_000);
    expect(trips).toBeGreaterThan(0);
  });

  test('that trickles trips after one window and not before', async () => {
    void read(chunks(1_000, 1, 250));
    await vi.advanceTimersByTimeAsync(2_900);
    expect(trips).toBe(0);
    await vi.advanceTimersByTimeAsync(200);
    expect(trips).toBe(1);
  });

  test('that stops after a good start trips one window later', async () => {
    async function* stalling() {
      yield* chunks(5, 200, 1_000);
      await new Promise(() => undefined);
    }
    void read(stalling());
    await vi.advanceTimersByTimeAsync(6_500);
    expect(trips).toBe(0);
    await vi.advanceTimersByTimeAsync(3_000);
    expect(trips).toBeGreaterThan(0);
  });

  test('whose reader is slow, as our own disk may be, does not trip', async () => {
    const reading = read(chunks(10, 1, 0), 5_000);
    await vi.advanceTimersByTimeAsync(60_000);
    await expect(reading).resolves.toBe(10);
    expect(trips).toBe(0);
  });

  test('that has not begun yet does not trip', async () => {
    await vi.advanceTimersByTimeAsync(60_000);
    expect(trips).toBe(0);
  });

  test('of several bodies is judged by their sum', async () => {
    const readings = Array.from({ length: 4 }, () => read(chunks(20, 15, 500)));
    await vi.advanceTimersByTimeAsync(11_000);
    await Promise.all(readings);
    expect(trips).toBe(0);
  });

  test('that was stopped leaves no timer and does not trip any more', async () => {
    expect(vi.getTimerCount()).toBe(1);
    floor.stop();
    expect(vi.getTimerCount()).toBe(0);
    void read(chunks(1_000, 1, 250));
    await vi.advanceTimersByTimeAsync(60_000);
    expect(trips).toBe(0);
  });
});

test('a reader that gives up closes the body', async () => {
  const floor = new ProgressFloor(LIMITS, () => undefined);
  let closed = false;
  async function* body() {
    try {
      for (;;) {
        await sleep(1);
        yield new Uint8Array(1);
      }
    } finally {
      closed = true;
    }
  }
  for await (const chunk of floor.watch(body())) {
    expect(chunk.byteLength).toBe(1);
    break;
  }
  floor.stop();
  expect(closed).toBe(true);
});

test('an error of the body goes through as it is', async () => {
  const floor = new ProgressFloor(LIMITS, () => undefined);
  async function* body() {
    yield new Uint8Array(1);
    throw new Error('broke off');
  }
  const read = async () => {
    for await (const chunk of floor.watch(body())) expect(chunk.byteLength).toBe(1);
  };
  await expect(read()).rejects.toThrow('broke off');
  floor.stop();
});
