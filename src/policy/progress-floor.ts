import { type Clock, systemClock } from '../domain/clock.ts';

/** A trickle is a hang: fewer bytes than this over the window, and the transfer is given up. */
export interface FloorLimits {
  readonly bytesPerSecond: number;
  readonly windowS: number;
}

/** One body on its way. */
export interface Transfer {
  came(bytes: number): void;
  /** To be called once. */
  end(isWhole: boolean): void;
}

const TICK_MS = 1_000;

/**
 * Watches the bodies of one snapshot together. Only seconds in which it waited for the other side count: our own disk's
 * backpressure and the wait for first bytes are excluded.
 */
export class ProgressFloor {
  readonly #limits: FloorLimits;
  readonly #clock: Clock;
  readonly #onTrip: () => void;
  readonly #window: number[] = [];
  readonly #timer: NodeJS.Timeout;
  #bytes = 0;
  #waiting = 0;
  #waitingSince = 0;
  #waitedMs = 0;

  constructor(limits: FloorLimits, onTrip: () => void, clock: Clock = systemClock) {
    this.#clock = clock;
    this.#limits = limits;
    this.#onTrip = onTrip;
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
  }

  /** A body that is taken as it comes, from its head on. */
  begin(): Transfer {
    this.#beginWait();
    return {
      came: bytes => {
        this.#bytes += bytes;
      },
      end: isWhole => {
        this.#endWait();
        if (isWhole) this.#finished();
      },
    };
  }

  /** Passes `body` through and counts it, for `came` as well. */
  async *watch(
    body: AsyncIterable<Uint8Array>,
    came: (bytes: number) => void = () => undefined,
  ): AsyncGenerator<Uint8Array> {
    const chunks = body[Symbol.asyncIterator]();
    try {
      for (;;) {
        this.#beginWait();
        const next = await chunks.next().finally(() => this.#endWait());
        if (next.done === true) return this.#finished();
        this.#bytes += next.value.byteLength;
        came(next.value.byteLength);
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

  #beginWait(): void {
    if (this.#waiting++ === 0) this.#waitingSince = this.#clock.monotonic();
  }

  #endWait(): void {
    if (--this.#waiting === 0) this.#waitedMs += this.#clock.monotonic() - this.#waitingSince;
  }

  /** Milliseconds of the last second in which some body was waited for. */
  #takeWaited(): number {
    const now = this.#clock.monotonic();
    const waited = this.#waitedMs + (this.#waiting > 0 ? now - this.#waitingSince : 0);
    this.#waitedMs = 0;
    this.#waitingSince = now;
    return waited;
  }

  #tick(): void {
    // Not whether it waits at this moment: a trickle in step with these ticks would never be seen waiting.
    if (this.#takeWaited() < TICK_MS / 2) return;
    this.#window.push(this.#bytes);
    this.#bytes = 0;
    if (this.#window.length > this.#limits.windowS) this.#window.shift();
    if (!isBelowFloor(this.#window, this.#limits)) return;
    // What is tried again has a whole window of its own.
    this.#window.length = 0;
    this.#onTrip();
  }
}

/** Whether a whole window of seconds brought too little. */
export function isBelowFloor(bytesBySecond: readonly number[], limits: FloorLimits): boolean {
  if (bytesBySecond.length < limits.windowS) return false;
  const bytes = bytesBySecond.reduce((sum, n) => sum + n, 0);
  return bytes < limits.bytesPerSecond * limits.windowS;
}
