import pLimit from 'p-limit';
import type { Clock } from '../domain/clock.ts';
import { TOO_LATE, within } from './abort.ts';

/** A healthy disk looks a name up in far less; one that hangs holds nobody up for longer than a deadline's tolerance. */
const DISK_WAIT_MS = 200;
/** Where the disk hangs, each holds one of libuv's threads, of which there are more. */
const MOST_AT_ONCE = 4;

interface Question {
  readonly askedAt: number;
  readonly answer: Promise<boolean>;
}

/**
 * Asks the disk what is answered in memory as well, if need be. Each question is asked once at a time, whoever waits for it, and
 * a disk that did not answer one in time is not waited for again until it has.
 */
export class DiskWatch {
  readonly #clock: Clock;
  readonly #asked = new Map<string, Question>();
  readonly #limit = pLimit(MOST_AT_ONCE);

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Whether an answer is overdue. */
  get isHanging(): boolean {
    const [oldest] = this.#asked.values();
    return oldest !== undefined && this.#leftMs(oldest) <= 0;
  }

  /** @param question must not reject */
  async ask(key: string, question: () => Promise<boolean>): Promise<boolean | typeof TOO_LATE> {
    if (this.isHanging) return TOO_LATE;
    const asked = this.#asked.get(key) ?? this.#begin(key, question);
    return await within(this.#leftMs(asked), asked.answer);
  }

  #begin(key: string, question: () => Promise<boolean>): Question {
    const answer = this.#limit(question).finally(() => this.#asked.delete(key));
    const asked = { askedAt: this.#clock.monotonic(), answer };
    this.#asked.set(key, asked);
    return asked;
  }

  #leftMs({ askedAt }: Question): number {
    return askedAt + DISK_WAIT_MS - this.#clock.monotonic();
  }
}
