/** Callers of a cached version wait for no longer than this for work that nobody waits for. */
const SLICE_MS = 8;

/**
 * All long work of the process shares one slice in each turn of the event loop: ten pieces of it at once hold up nobody for ten
 * times as long.
 */
let endsAt: number | null = null;
const waiting = new Set<() => void>();

/** Begins a slice, which the next turn ends; then whoever waits longest begins another. */
function begin(): number {
  endsAt = performance.now() + SLICE_MS;
  setImmediate(() => {
    endsAt = null;
    const [next] = waiting;
    if (next === undefined) return;
    waiting.delete(next);
    begin();
    next();
  });
  return endsAt;
}

/** Whether work that has begun has to let others go on; to be asked often. */
export function isSliceOver(): boolean {
  return performance.now() >= (endsAt ?? begin());
}

/** Between two steps of long work; at once while the slice is not over. */
export async function nextSlice(): Promise<void> {
  if (!isSliceOver()) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  waiting.add(resolve);
  await promise;
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
  for (;;) {
    if (isSliceOver()) await nextSlice();
    const step = work.next();
    if (step.done === true) return step.value;
  }
}

export function atOnce<T>(work: Steps<T>): T {
  for (;;) {
    const step = work.next();
    if (step.done === true) return step.value;
  }
}
