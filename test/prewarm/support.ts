import { onTestFinished, vi } from 'vitest';
import type { Clock } from '../../src/domain/clock.ts';
import { parseModelUri } from '../../src/domain/model-uri.ts';
import { Scheduler } from '../../src/prewarm/scheduler.ts';

export const SECOND = 1_000;
export const MINUTE = 60 * SECOND;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

/** Time that passes when it is told to, and a clock that can be set. */
export class FakeTime implements Clock {
  #setBy = 0;

  /** @param start milliseconds since 1970 */
  constructor(start: number) {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'], now: start });
    onTestFinished(() => void vi.useRealTimers());
  }

  now(): number {
    return Date.now();
  }

  monotonic(): number {
    return Date.now() - this.#setBy;
  }

  /** As an operator or NTP sets a clock: no time passes. */
  set(byMs: number): void {
    this.#setBy += byMs;
    vi.setSystemTime(Date.now() + byMs);
  }

  pass(ms: number): void {
    vi.advanceTimersByTime(ms);
  }
}

interface Run {
  readonly uri: string;
  /** By the clock that may be set. */
  readonly at: number;
  readonly monotonic: number;
}

/** A scheduler that notes what is due when, started. */
export function noted(
  time: FakeTime,
  crons: Readonly<Record<string, string>>,
  random = () => 0.5,
  timezone = 'UTC',
) {
  const runs: Run[] = [];
  const schedules = Object.entries(crons).map(([uri, cron]) => ({ uri: parseModelUri(uri), cron }));
  const names = new Map(schedules.map(({ uri }, i) => [uri, Object.keys(crons)[i] ?? '']));
  const scheduler = new Scheduler({
    schedules,
    timezone,
    clock: time,
    random,
    onDue: uri => runs.push({ uri: names.get(uri) ?? '', at: time.now(), monotonic: time.monotonic() }),
  });
  scheduler.start();
  return { runs, scheduler };
}
