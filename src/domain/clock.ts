import { performance } from 'node:perf_hooks';

/** The only source of time. */
export interface Clock {
  /** Milliseconds since 1970; may jump. For what is stored and shown. */
  now(): number;
  /** Milliseconds since an arbitrary moment; never goes back. For durations and deadlines. */
  monotonic(): number;
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
};

/** A clock that is slewed or read between two ticks is not one that was set. */
const SET_MS = 1_000;

/** What `now()` was ahead of `monotonic()` by when a clock was first asked. */
const offsets = new WeakMap<Clock, number>();

/**
 * Whole milliseconds that begin as those of `now()`, and go on by the monotonic clock: ages and expiry are differences of these, so that
 * a clock that is set makes nothing fresh or old. They mean nothing outside of the process.
 */
export function steady(clock: Clock): number {
  const offset = offsets.get(clock) ?? clock.now() - clock.monotonic();
  offsets.set(clock, offset);
  return Math.round(offset + clock.monotonic());
}

/** As it is stored and shown: milliseconds since 1970 by the clock as it is now. */
export function wallTime(at: number, clock: Clock = systemClock): number {
  return at + drift(clock);
}

/** Of a time from the disk. One in the future was written by a clock that was wrong: it counts as now. */
export function steadyTime(wall: number, clock: Clock = systemClock): number {
  return Math.min(wall - drift(clock), steady(clock));
}

function drift(clock: Clock): number {
  const ms = Math.round(clock.now() - steady(clock));
  return Math.abs(ms) < SET_MS ? 0 : ms;
}
