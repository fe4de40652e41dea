/** So much at once, and no queue: whoever finds nothing left does without. */
export class Allowance {
  readonly #size: number;
  #taken = 0;

  constructor(size: number) {
    this.#size = size;
  }

  /** Whether there was one; then it is to be given back. */
  take(): boolean {
    if (this.#taken >= this.#size) return false;
    this.#taken += 1;
    return true;
  }

  giveBack(): void {
    this.#taken -= 1;
  }
}
