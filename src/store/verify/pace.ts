/** Keeps work that nobody waits for below a rate, without making up for time in which it was slower. */
export class Pace {
  readonly #bytesPerMs: number;
  #freeAt = Number.NEGATIVE_INFINITY;

  /** @param bytesPerSecond `Infinity` for as fast as it goes */
  constructor(bytesPerSecond: number) {
    this.#bytesPerMs = bytesPerSecond / 1_000;
  }

  /** For how many milliseconds to rest after so many bytes, at `now` on the monotonic clock. */
  restAfter(bytes: number, now: number): number {
    this.#freeAt = Math.max(this.#freeAt, now) + bytes / this.#bytesPerMs;
    return this.#freeAt - now;
  }
}
