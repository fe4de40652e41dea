import pLimit from 'p-limit';
import { TOO_LATE } from './abort.ts';

/**
 * A healthy disk looks a name up in far less; one that hangs holds nobody up for longer than a deadline's tolerance.
 * In turns of the event loop that last so long at least: one that was busy has not seen what the disk said meanwhile.
 */
const TURN_MS = 50;
const TURNS = 4;
/** Where the disk hangs, each holds one of libuv's threads, of which there are more. */
const MOST_AT_ONCE = 4;

type Answer = Promise<boolean | typeof TOO_LATE>;

/**
 * Asks the disk what is answered in memory as well, if need be. Each question is asked once at a time, whoever waits for it, and
 * a disk that did not answer one in time is not waited for again until it has.
 */
export class DiskWatch {
  readonly #asked = new Map<string, Answer>();
  readonly #overdue = new Set<string>();
  readonly #limit = pLimit(MOST_AT_ONCE);

  /** Whether an answer is overdue. */
  get isHanging(): boolean {
    return this.#overdue.size > 0;
  }

  /** @param question must not reject */
  async ask(key: string, question: () => Promise<boolean>): Answer {
    if (this.isHanging) return TOO_LATE;
    return await (this.#asked.get(key) ?? this.#begin(key, question));
  }

  #begin(key: string, question: () => Promise<boolean>): Answer {
    const { promise: late, resolve } = Promise.withResolvers<typeof TOO_LATE>();
    const cancel = afterTurns(TURNS, () => {
      this.#overdue.add(key);
      resolve(TOO_LATE);
    });
    const answer = this.#limit(question).finally(() => {
      cancel();
      this.#asked.delete(key);
      this.#overdue.delete(key);
    });
    const asked = Promise.race([answer, late]);
    this.#asked.set(key, asked);
    return asked;
  }
}

/** @returns what keeps `work` from being done */
function afterTurns(turns: number, work: () => void): () => void {
  let isCancelled = false;
  let timer: NodeJS.Timeout;
  const wait = (left: number) => {
    // Only after the timers it is seen what the disk has said.
    timer = setTimeout(() => setImmediate(() => end(left - 1)), TURN_MS);
  };
  const end = (left: number) => {
    if (isCancelled) return;
    if (left > 0) wait(left);
    else work();
  };
  wait(turns);
  return () => {
    isCancelled = true;
    clearTimeout(timer);
  };
}
