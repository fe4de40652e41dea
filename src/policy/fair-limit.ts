import { inLine } from './abort.ts';

/** The slots of one run. */
export interface Slots {
  /**
   * Does `work` once a slot is free, and gives the slot back when it ends, or as soon as it says so.
   * @throws the signal's reason, where that aborts before a slot was free
   */
  use<T>(signal: AbortSignal, work: (giveBack: () => void) => Promise<T>): Promise<T>;
}

interface Run {
  held: number;
  /** Each takes the slot, unless it was given up meanwhile. */
  readonly waiting: Set<() => void>;
}

/**
 * So many pieces of work at once over all runs. A run that holds slots and does not get on must not stop the others: it may
 * hold three quarters of what they leave (12 of 16 where it is alone), and a slot that becomes free goes to whoever holds least.
 */
export class FairLimit {
  readonly #size: number;
  readonly #runs = new Set<Run>();
  #held = 0;

  constructor(size: number) {
    this.#size = size;
  }

  /** For one run; what it waits for is kept apart from the others'. */
  forRun(): Slots {
    const run: Run = { held: 0, waiting: new Set() };
    return {
      use: async (signal, work) => {
        await this.#take(run, signal);
        let isHeld = true;
        const giveBack = () => {
          if (!isHeld) return;
          isHeld = false;
          run.held--;
          this.#held--;
          // After what follows from this work's end: where it failed, its run does not want another slot.
          setImmediate(() => this.#giveOut());
        };
        try {
          return await work(giveBack);
        } finally {
          giveBack();
        }
      },
    };
  }

  async #take(run: Run, signal: AbortSignal): Promise<void> {
    const turn = inLine(run.waiting, signal);
    this.#runs.add(run);
    this.#giveOut();
    await turn;
  }

  #giveOut(): void {
    for (let run = this.#next(); run !== null; run = this.#next()) {
      const [first] = run.waiting;
      if (first === undefined) return;
      run.waiting.delete(first);
      run.held++;
      this.#held++;
      first();
    }
  }

  /** Of the runs that wait and may hold one more, the one that holds least; at equal numbers the one that came first. */
  #next(): Run | null {
    let next: Run | null = null;
    for (const run of this.#runs) {
      if (run.waiting.size === 0) this.#runs.delete(run);
      else if (run.held < this.#most(run) && (next === null || run.held < next.held)) next = run;
    }
    return next;
  }

  #most(run: Run): number {
    const left = this.#size - (this.#held - run.held);
    return Math.min(left, Math.max(1, Math.floor(left * 0.75)));
  }
}
