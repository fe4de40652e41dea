/** Work for one key is done one after the other, in the order asked for; keys do not wait for each other. */
export class Turns {
  readonly #last = new Map<string, Promise<unknown>>();

  take<T>(key: string, work: (key: string) => Promise<T>): Promise<T> {
    const before = this.#last.get(key) ?? Promise.resolve();
    const done = before.then(() => work(key));
    const settled = done
      .catch(() => undefined)
      .finally(() => {
        if (this.#last.get(key) === settled) this.#last.delete(key);
      });
    this.#last.set(key, settled);
    return done;
  }

  /** Resolves when all that was asked for so far has ended, well or not. */
  async all(): Promise<void> {
    await Promise.all(this.#last.values());
  }
}
