import { setImmediate as turn } from 'node:timers/promises';

/** Callers of a cached version wait for no longer than this for work that nobody waits for. */
const SLICE_MS = 8;

/** Long work in slices, between which everybody else has a turn. */
export class Slices {
  #since = performance.now();

  /** Between two steps; at once while the slice is not over. */
  async next(): Promise<void> {
    if (performance.now() - this.#since < SLICE_MS) return;
    await turn();
    this.#since = performance.now();
  }
}

/** Each `yield` is a place where the work may be interrupted. */
export type Steps<T> = Generator<undefined, T, undefined>;

export async function inSlices<T>(work: Steps<T>): Promise<T> {
  const slices = new Slices();
  for (;;) {
    const step = work.next();
    if (step.done === true) return step.value;
    await slices.next();
  }
}

export function atOnce<T>(work: Steps<T>): T {
  for (;;) {
    const step = work.next();
    if (step.done === true) return step.value;
  }
}
