/** A trickle is a hang: fewer bytes than this over the window, and the transfer is given up. */
export interface FloorLimits {
  readonly bytesPerSecond: number;
  readonly windowS: number;
}

const TICK_MS = 1_000;

/**
 * Watches the bodies of one snapshot together. Only seconds in which it waited for the other side count: our own disk's
 * backpressure and the wait for first bytes are excluded.
 */
export class ProgressFloor {
  readonly #limits: FloorLimits;
  readonly #onTrip: () => void;
  readonly #window: number[] = [];
  readonly #timer: NodeJS.Timeout;
  #bytes = 0;
  #waiting = 0;

  constructor(limits: FloorLimits, onTrip: () => void) {
    this.#limits = limits;
    this.#onTrip = onTrip;
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
  }

  /** Passes `body` through and counts it. */
  async *watch(body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    const chunks = body[Symbol.asyncIterator]();
    try {
      for (;;) {
        this.#waiting++;
        const next = await chunks.next().finally(() => this.#waiting--);
        if (next.done === true) return this.#finished();
        this.#bytes += next.value.byteLength;
        yield next.value;
      }
    } finally {
      await chunks.return?.();
    }
  }

  /** A body that came to its end is progress, however small: trees of tiny files are no trickle. */
  #finished(): void {
    this.#bytes += this.#limits.bytesPerSecond;
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #tick(): void {
    if (this.#waiting === 0) return;
    this.#window.push(this.#bytes);
    this.#bytes = 0;
    if (this.#window.length > this.#limits.windowS) this.#window.shift();
    if (isBelowFloor(this.#window, this.#limits)) this.#onTrip();
  }
}

/** Whether a whole window of seconds brought too little. */
export function isBelowFloor(bytesBySecond: readonly number[], limits: FloorLimits): boolean {
  if (bytesBySecond.length < limits.windowS) return false;
  const bytes = bytesBySecond.reduce((sum, n) => sum + n, 0);
  return bytes < limits.bytesPerSecond * limits.windowS;
}
