import type { Clock } from '../domain/clock.ts';
import type { SidecarError } from '../domain/errors.ts';
import type { BreakerState } from '../domain/outcome.ts';

/** Beyond that, whoever has waited longest gives up. */
const MOST_WAITING = 1_000;
/** A server that shows nothing of its health, and is not left alone, is asked again this soon: by one for each item. */
const TRY_MS = 10_000;

/** Looks after a server's health for as long as anybody wants to know. */
export interface Pulse {
  /** @returns to be called when it is wanted no longer */
  watch(onHealth: (isWell: boolean) => void): () => void;
  /** A request failed so. */
  failed(error: SidecarError): void;
}

/** What the breaker of the server decides. */
interface Gate {
  refusal(item: string): SidecarError | null;
  readonly state: BreakerState;
  readonly retryInMs: number | null;
  halfOpen(): void;
}

export interface RecoveryOptions {
  readonly gate: Gate;
  readonly pulse: Pulse | null;
  readonly clock: Clock;
}

interface Waiting {
  readonly item: string;
  readonly wake: () => void;
  readonly giveUp: () => void;
}

/**
 * Whoever has nothing else to give waits here for a server that has an outage, in no queue's place. It is found to be back by its
 * health, or by the breaker's trial. Where it is still to be shown, one of those who wait goes first; all others follow its success.
 */
export class Recovery {
  readonly #options: RecoveryOptions;
  readonly #waiting = new Set<Waiting>();
  #pausing = 0;
  #back = new AbortController();
  #wasDown = false;
  #unwatch: (() => void) | null = null;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: RecoveryOptions) {
    this.#options = options;
  }

  get waiting(): number {
    return this.#waiting.size;
  }

  /** Aborts when the server, having been down, shows that it is well: whoever waits to try again need wait no longer. */
  get back(): AbortSignal {
    return this.#back.signal;
  }

  /**
   * Resolves when it is worth asking for `item` again.
   * @param failure why not now
   * @param until on the monotonic clock, in milliseconds
   * @throws the failure after that, or where too many wait; the signal's reason where that aborts
   */
  async wait(item: string, failure: SidecarError, until: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const giveUp = () => reject(failure);
    const leave = () => reject(signal.reason);
    const waiting = { item, wake: resolve, giveUp };
    const [oldest] = this.#waiting;
    if (oldest !== undefined && this.#waiting.size >= MOST_WAITING) this.#end(oldest).giveUp();
    this.#waiting.add(waiting);
    this.#look();
    const msLeft = until - this.#options.clock.monotonic();
    const timer = until === Number.POSITIVE_INFINITY ? undefined : setTimeout(giveUp, msLeft);
    signal.addEventListener('abort', leave, { once: true });
    try {
      await promise;
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', leave);
      this.#end(waiting);
      this.#look();
    }
  }

  /** The server's health is looked after while `pause` lasts, since `back` may end it. */
  async during(pause: () => Promise<void>): Promise<void> {
    this.#pausing++;
    this.#look();
    try {
      await pause();
    } finally {
      this.#pausing--;
      this.#look();
    }
  }

  failed(error: SidecarError): void {
    this.#wasDown = true;
    this.#options.pulse?.failed(error);
  }

  /** Whoever waits for the same item may go on. */
  succeeded(item: string): void {
    for (const waiting of this.#waiting) if (waiting.item === item) this.#end(waiting).wake();
  }

  /** From now on the server is left alone. */
  opened(): void {
    this.#wasDown = true;
    this.#look();
  }

  /** The breaker may let through more than before. */
  changed(isClosedAgain: boolean): void {
    if (isClosedAgain) this.#wakeAll();
    else this.#wakeFirst();
    this.#look();
  }

  dispose(): void {
    this.#unwatch?.();
    this.#unwatch = null;
    clearTimeout(this.#timer);
  }

  #end(waiting: Waiting): Waiting {
    this.#waiting.delete(waiting);
    return waiting;
  }

  /** Watches for as long as somebody waits, or the server is left alone. */
  #look(): void {
    const { gate, pulse } = this.#options;
    const isWanted = this.#waiting.size > 0 || this.#pausing > 0 || gate.state === 'open';
    if (isWanted) this.#unwatch ??= pulse?.watch(isWell => this.#heard(isWell)) ?? null;
    else {
      this.#unwatch?.();
      this.#unwatch = null;
    }
    if (this.#waiting.size === 0) {
      clearTimeout(this.#timer);
      this.#timer = undefined;
    } else this.#timer ??= this.#again();
  }

  #again(): NodeJS.Timeout {
    const { gate } = this.#options;
    const ms = Math.min(TRY_MS, gate.retryInMs ?? TRY_MS);
    return setTimeout(() => {
      this.#timer = undefined;
      this.#wakeFirst();
      this.#look();
    }, ms);
  }

  #heard(isWell: boolean): void {
    if (!isWell) {
      this.#wasDown = true;
      return;
    }
    if (this.#wasDown) {
      this.#wasDown = false;
      this.#back.abort();
      this.#back = new AbortController();
    }
    const { gate } = this.#options;
    if (gate.state === 'open') gate.halfOpen();
    else this.#wakeFirst();
    this.#look();
  }

  #wakeAll(): void {
    for (const waiting of this.#waiting) this.#end(waiting).wake();
  }

  /** The one that may be the trial; where nothing is left alone, one for each item: a failing one is not asked for by all who wait for it. */
  #wakeFirst(): void {
    const { gate } = this.#options;
    const items = new Set<string>();
    for (const waiting of this.#waiting) {
      if (items.has(waiting.item) || gate.refusal(waiting.item) !== null) continue;
      items.add(waiting.item);
      this.#end(waiting).wake();
      if (gate.state !== 'closed') return;
    }
  }
}
