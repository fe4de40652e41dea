import { untilAborted } from './abort.ts';

/** Equal work is done once: whoever asks for a key that is under way gets the same promise. */
export class SingleFlight<T> {
  readonly #flying = new Map<string, Promise<T>>();

  join(key: string, start: () => Promise<T>): Promise<T> {
    const flying = this.#flying.get(key);
    if (flying !== undefined) return flying;
    const started = start().finally(() => this.#flying.delete(key));
    this.#flying.set(key, started);
    return started;
  }

  /**
   * For work that ends with the signal of whoever started it: where another's fails, it is done again under our own.
   */
  async joinOrRedo(key: string, signal: AbortSignal, start: () => Promise<T>): Promise<T> {
    for (let others = this.#flying.get(key); others !== undefined; others = this.#flying.get(key)) {
      try {
        return await untilAborted(others, signal);
      } catch {
        signal.throwIfAborted();
      }
    }
    return await this.join(key, start);
  }
}
