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
