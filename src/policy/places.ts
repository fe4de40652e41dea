import { SidecarError } from '../domain/errors.ts';
import { inLine } from './abort.ts';

export interface PlaceLimits {
  readonly inFlight: number;
  readonly waiting: number;
}

/** So much at once, so much more in a queue, and beyond that a refusal at once. */
export class Places {
  readonly #limits: PlaceLimits;
  readonly #who: string;
  readonly #waiting = new Set<() => void>();
  #taken = 0;

  /** @param who whom the requests are for, as messages name it */
  constructor(who: string, limits: PlaceLimits) {
    this.#who = who;
    this.#limits = limits;
  }

  /** How many wait for a place. */
  get waiting(): number {
    return this.#waiting.size;
  }

  /**
   * Does `work` once there is a place for it; first come, first served.
   * @throws SidecarError `overloaded` where the queue is full; the signal's reason where that ends the wait
   */
  async run<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    signal.throwIfAborted();
    if (this.#taken >= this.#limits.inFlight) await this.#queue(signal);
    else this.#taken += 1;
    try {
      return await work();
    } finally {
      this.#leave();
    }
  }

  async #queue(signal: AbortSignal): Promise<void> {
    if (this.#waiting.size >= this.#limits.waiting) {
      throw new SidecarError(
        'overloaded',
        `${this.#limits.waiting} questions for ${this.#who} wait already.`,
        { hint: 'Ask again in a moment, and reload fewer models at once.' },
      );
    }
    await inLine(this.#waiting, signal);
  }

  /** The place is handed on, so that nobody who comes meanwhile takes it from whoever waited. */
  #leave(): void {
    const [next] = this.#waiting;
    if (next === undefined) {
      this.#taken -= 1;
      return;
    }
    this.#waiting.delete(next);
    next();
  }
}
