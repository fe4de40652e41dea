import pLimit from 'p-limit';
import { Recent } from '../../policy/recent.ts';

/** How often the same thing is saved again: more often would wear the disk for a time of day that nobody reads. */
const EVERY_MS = 1_000;
/** Where the disk hangs, each holds one of libuv's threads, of which there are more. */
const MOST_AT_ONCE = 4;

/** More are not saved within that time; one that is forgotten is only saved sooner. */
const MOST_REMEMBERED = 1_000;

interface Due {
  readonly timer: NodeJS.Timeout;
  readonly start: () => void;
}

/** When things are saved that nobody waits for: the first time at once, then once a second, and few at a time. */
export class BackgroundSaves {
  readonly #due = new Map<string, Due>();
  readonly #startedAt = new Recent<number>(MOST_REMEMBERED);
  readonly #limit = pLimit(MOST_AT_ONCE);

  /** Calls `start` when it is time; until then, further wishes for the same key are one with this. */
  schedule(key: string, start: () => void): void {
    if (this.#due.has(key)) return;
    const waitMs = (this.#startedAt.get(key) ?? Number.NEGATIVE_INFINITY) + EVERY_MS - performance.now();
    if (waitMs <= 0) this.#start(key, start);
    else this.#due.set(key, { start, timer: setTimeout(() => this.#start(key, start), waitMs).unref() });
  }

  /** Does the work of a save once there is room for it. */
  save(work: () => Promise<void>): Promise<void> {
    return this.#limit(work);
  }

  /** Starts at once what is due later. */
  hurry(): void {
    for (const [key, { timer, start }] of this.#due) {
      clearTimeout(timer);
      this.#start(key, start);
    }
  }

  #start(key: string, start: () => void): void {
    this.#due.delete(key);
    this.#startedAt.set(key, performance.now());
    start();
  }
}
