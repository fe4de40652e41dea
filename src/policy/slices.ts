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

/**
 * The same for works that go on beside each other: together they take no more of a turn than one of them would, and each in its turn.
 */
export class SharedSlices {
  readonly #waiting: (() => void)[] = [];
  #until = 0;

  /** Between two steps; at once while the slice is not over, and nobody waits. */
  async next(): Promise<void> {
    if (this.#waiting.length === 0 && performance.now() < this.#until) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting.push(resolve);
    if (this.#waiting.length === 1) setImmediate(() => this.#begin());
    await promise;
  }

  #begin(): void {
    this.#until = performance.now() + SLICE_MS;
    this.#waiting.shift()?.();
    if (this.#waiting.length > 0) setImmediate(() => this.#begin());
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
