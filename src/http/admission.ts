/** Calls that may be under way at once: waiting for MLflow costs little, but not nothing. */
const MOST_WAITING = 1_000;
/**
 * Never refused for being busy. Half of a busy day's ten: what is refused takes half of the loop's time, and who is let in is to be
 * answered about as soon as ever.
 */
const FEWEST_ACTIVE = 5;
/** A thousand callers that come at once are two seconds of work; a loop that is busy for longer has too much of it. */
const BUSY_FOR_MS = 2_000;
/** For so long nobody was refused: the load is gone. */
const CALM_FOR_MS = 2_000;
/** More active calls than this, on a loop that has no time to spare, are a queue. One that only downloads has none. */
const QUEUE = 20;
/** Shares of its time in which the event loop had something to do. Between the two nothing changes. */
const BUSY = 0.95;
const AT_EASE = 0.85;
/** A call that is older waits for somebody else, and uses no processor. */
const ACTIVE_FOR_MS = 1_000;

/** One call that was let in; to be given back when it has been answered. */
export interface Ticket {
  readonly generation: number;
}

/**
 * Which calls are let in. While the event loop has time to spare that is every one, up to 1,000 at once. Once calls have queued
 * for two seconds on end, only so many are active at a time that those who are let in are answered about as soon as ever: few at
 * first, more for as long as there is time left over. No timer, no clock: it is told how the loop does.
 */
export class Admission {
  #waiting = 0;
  /** Calls under way that came in the generation of now, and in the one before. */
  #young: readonly [number, number] = [0, 0];
  #generation = 0;
  #generationMs = 0;
  #busyMs = 0;
  #calmMs = 0;
  #refused = false;
  /** How many may be active; null while nobody is refused for being busy. */
  #most: number | null = null;

  get isShedding(): boolean {
    return this.#most !== null;
  }

  /** A ticket, or why there is none. */
  admit(): Ticket | 'full' | 'busy' {
    if (this.#waiting >= MOST_WAITING) return this.#refuse('full');
    if (this.#most !== null && this.#active >= this.#most) return this.#refuse('busy');
    this.#waiting += 1;
    this.#young = [this.#young[0] + 1, this.#young[1]];
    return { generation: this.#generation };
  }

  release({ generation }: Ticket): void {
    const [now, before] = this.#young;
    this.#waiting -= 1;
    if (generation === this.#generation) this.#young = [now - 1, before];
    else if (generation === this.#generation - 1) this.#young = [now, before - 1];
  }

  /**
   * How the event loop did since the last time.
   * @param utilization the share of the time in which it had something to do
   * @param ms how long that is
   */
  sample(utilization: number, ms: number): void {
    this.#age(ms);
    if (this.#most === null) this.#watch(utilization >= BUSY && this.#active > QUEUE, ms);
    else if (this.#isOver(ms)) this.#most = null;
    else this.#most = this.#adjusted(this.#most, utilization);
    this.#refused = false;
  }

  get #active(): number {
    return this.#young[0] + this.#young[1];
  }

  #age(ms: number): void {
    this.#generationMs += ms;
    if (this.#generationMs < ACTIVE_FOR_MS / 2) return;
    this.#generationMs = 0;
    this.#generation += 1;
    this.#young = [0, this.#young[0]];
  }

  #watch(isBusy: boolean, ms: number): void {
    this.#busyMs = isBusy ? this.#busyMs + ms : Math.max(0, this.#busyMs - ms);
    if (this.#busyMs < BUSY_FOR_MS) return;
    this.#most = FEWEST_ACTIVE;
    this.#busyMs = 0;
    this.#calmMs = 0;
  }

  #isOver(ms: number): boolean {
    this.#calmMs = this.#refused ? 0 : this.#calmMs + ms;
    return this.#calmMs >= CALM_FOR_MS;
  }

  #adjusted(most: number, utilization: number): number {
    if (utilization >= BUSY) return Math.max(FEWEST_ACTIVE, Math.floor(most * 0.8));
    return this.#refused && utilization < AT_EASE ? Math.min(MOST_WAITING, Math.ceil(most * 1.1)) : most;
  }

  #refuse<Reason extends 'full' | 'busy'>(reason: Reason): Reason {
    this.#refused = true;
    return reason;
  }
}
