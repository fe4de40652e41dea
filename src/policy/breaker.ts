import { EventEmitter } from 'node:events';
import Opossum from 'opossum';
import type { Clock } from '../domain/clock.ts';
import { SidecarError, toSidecarError } from '../domain/errors.ts';
import type { BreakerState } from '../domain/outcome.ts';
import {
  admits,
  at,
  type BreakerLimits,
  begun,
  type Circuit,
  causeOf,
  type Ending,
  ended,
  halfOpened,
  INITIAL,
  isServerFault,
  refused,
  type Subject,
} from './breaker-rules.ts';
import { type Pulse, Recovery } from './recovery.ts';

/** The longest time that a timer can wait: opossum's own half-open never comes. */
const NEVER_MS = 2 ** 31 - 1;
/** A caller that is refused while the trial is under way may ask again this soon. */
const TRIAL_RETRY_S = 1;

type OnChange = (from: BreakerState, to: BreakerState, reason: string | null) => void;

export interface BreakerOptions {
  /** How messages begin: "MLflow at http://mlflow:5000". */
  readonly who: string;
  readonly limits: BreakerLimits;
  readonly clock: Clock;
  readonly onChange: OnChange;
  /** Looks after the server's health while it is left alone, or somebody waits for it. */
  readonly pulse?: Pulse | undefined;
  /** Whether the server is known from elsewhere to have answered before. */
  readonly isKnown?: () => boolean;
}

interface Failure {
  readonly reason: string;
  readonly cause: string | null;
}

/** The one request that decides whether the server is well again. */
export interface Trial {
  /** Decides for it before the request has ended. */
  succeeded(): void;
}

/**
 * Leaves a server alone that failed several times in a row, and lets a single request find out whether it is back.
 * opossum lets requests through and stops them; what it would decide by itself is switched off, since it counts shares
 * of a window instead of failures in a row, and takes a 404 or a late answer for a recovery.
 */
export class Breaker {
  readonly #options: BreakerOptions;
  readonly #gate: Opossum<[() => Promise<void>], void>;
  /** One error may end many requests; it is one failure. */
  readonly #counted = new WeakSet<Error>();
  #circuit: Circuit = INITIAL;
  #opening = new AbortController();
  #lastFailure: string | null = null;
  #trial: PromiseWithResolvers<void> | null = null;
  #hasAnswered = false;
  /** Where callers wait for the server to come back. */
  readonly recovery: Recovery;

  constructor(options: BreakerOptions) {
    this.#options = options;
    this.recovery = new Recovery({ gate: this, pulse: options.pulse ?? null, clock: options.clock });
    this.#gate = new Opossum(work => work(), {
      timeout: false,
      errorThresholdPercentage: 101,
      resetTimeout: NEVER_MS,
      rollingPercentilesEnabled: false,
      enableSnapshots: false,
      // Without one it keeps a timer of its own that turns the window over.
      rotateBucketController: new EventEmitter(),
    });
  }

  get state(): BreakerState {
    return this.#now().state;
  }

  /** Failed tries in a row. */
  get failures(): number {
    return this.#circuit.failures;
  }

  /** Milliseconds until the trial; null unless it is open. */
  get retryInMs(): number | null {
    const circuit = this.#now();
    return circuit.state === 'open' ? circuit.until - this.#options.clock.monotonic() : null;
  }

  /** Whether the server answered before: what does not now has an outage, and no wrong address. */
  get hasAnswered(): boolean {
    return this.answeredItself || this.#options.isKnown?.() === true;
  }

  /** The same, as far as it let requests through. */
  get answeredItself(): boolean {
    return this.#hasAnswered;
  }

  get lastFailure(): string | null {
    return this.#lastFailure;
  }

  /** Aborts when it opens next: whoever waits to try again need wait no longer. */
  get opening(): AbortSignal {
    return this.#opening.signal;
  }

  /** Resolves when the trial under way has ended or was decided; null where none is. */
  get trial(): Promise<void> | null {
    return this.#trial?.promise ?? null;
  }

  /**
   * Why a request would be refused now; null where it would be let through.
   * @param item what it is about
   */
  refusal(item: string | null = null): SidecarError | null {
    return this.#admits(item) ? null : this.#refused(item);
  }

  /** The server shows that it is well: where it was left alone, one request may find out now. */
  halfOpen(): void {
    const circuit = halfOpened(this.#now(), this.#options.clock.monotonic());
    if (circuit !== this.#circuit) this.#become(circuit, null);
  }

  /**
   * Lets `work` begin, and learns from how it ends. Its trial, where it is one, must end by itself in time.
   * @param signal what ends the work from outside, which says nothing about the server
   * @param isNeutral whether a result says nothing about the server either
   * @param about what it is about; null where each failure counts
   * @throws SidecarError `circuit_open`, or what `work` throws
   */
  async run<T>(
    signal: AbortSignal,
    work: (trial: Trial | null) => Promise<T>,
    isNeutral: (result: T) => boolean = () => false,
    about: Subject | null = null,
  ): Promise<T> {
    if (!this.#admits(about?.item ?? null)) throw this.#refused(about?.item ?? null);
    this.#become(begun(this.#now()), null);
    const { generation, state } = this.#circuit;
    const end = (ending: Ending, failure: Failure | null) => this.#end(generation, ending, failure);
    try {
      const result =
        state === 'closed'
          ? await this.#throughGate(() => work(null))
          : await work({ succeeded: () => end('success', null) });
      this.#hasAnswered = true;
      end(isNeutral(result) ? 'neutral' : 'success', null);
      return result;
    } catch (thrown) {
      const error = signal.aborted ? toSidecarError(signal.reason) : toSidecarError(thrown);
      if (error.code === 'access_denied') this.#hasAnswered = true;
      const ending = this.#endingOf(error, signal.aborted);
      end(ending, ending === 'failure' ? { reason: error.message, cause: causeOf(error, about) } : null);
      throw thrown;
    }
  }

  /** Ends its timer. Who still holds it may go on. */
  dispose(): void {
    this.recovery.dispose();
    this.#gate.shutdown();
  }

  /** opossum's result has one type; the requests have many. */
  async #throughGate<T>(work: () => Promise<T>): Promise<T> {
    if (this.#gate.isShutdown) return await work();
    const { promise, resolve } = Promise.withResolvers<T>();
    await this.#gate.fire(async () => resolve(await work()));
    return await promise;
  }

  #endingOf(error: SidecarError, wasAborted: boolean): Ending {
    // What aborts the work is mostly of our own making; the progress floor says of itself that it is not.
    const isFailure = wasAborted ? error.serverFault === true : isServerFault(error);
    if (!isFailure || this.#counted.has(error)) return 'neutral';
    this.#counted.add(error);
    return 'failure';
  }

  #end(generation: number, ending: Ending, failure: Failure | null): void {
    const { clock, limits } = this.#options;
    const before = this.#circuit;
    const after = ended(before, generation, ending, limits, clock.monotonic(), failure?.cause ?? null);
    if (after === before) return;
    const reason = failure?.reason ?? null;
    if (reason !== null) this.#lastFailure = reason;
    this.#become(after, reason);
  }

  #admits(item: string | null): boolean {
    return admits(this.#now(), this.#options.clock.monotonic(), item);
  }

  #become(circuit: Circuit, reason: string | null): void {
    const from = this.#circuit.state;
    this.#circuit = circuit;
    const isOnTrial = circuit.state === 'half-open' && circuit.hasTrial;
    if (!isOnTrial) this.#trial?.resolve();
    this.#trial = isOnTrial ? (this.#trial ?? Promise.withResolvers()) : null;
    if (circuit.state !== from) this.#changed(from, circuit.state, reason);
    const isClosedAgain = circuit.state === 'closed' && from !== 'closed';
    if (isClosedAgain || (circuit.state === 'half-open' && !isOnTrial)) this.recovery.changed(isClosedAgain);
  }

  #changed(from: BreakerState, to: BreakerState, reason: string | null): void {
    if (to === 'closed') this.#gate.close();
    if (to === 'open') {
      this.#gate.open();
      this.#opening.abort();
      this.#opening = new AbortController();
      this.recovery.opened();
    }
    this.#options.onChange(from, to, reason);
  }

  #now(): Circuit {
    return at(this.#circuit, this.#options.clock.monotonic());
  }

  #refused(item: string | null): SidecarError {
    this.#circuit = refused(this.#now(), item);
    const retryInMs = this.retryInMs;
    const retryAfterS = retryInMs === null ? TRIAL_RETRY_S : Math.max(retryInMs / 1_000, TRIAL_RETRY_S);
    const trial =
      this.#trial === null ? 'other requests find out first whether it is back' : 'a trial is under way';
    const next = retryInMs === null ? trial : `the next trial is in ${Math.ceil(retryAfterS)} s`;
    const times = this.failures === 1 ? 'once' : `${this.failures} times in a row`;
    const last = this.#lastFailure === null ? '' : ` Last failure: ${this.#lastFailure}`;
    return new SidecarError('circuit_open', `${this.#options.who} failed ${times}; ${next}.${last}`, {
      hint: 'Mend what the last failure names. The sidecar then finds out by itself: ask again after the trial.',
      retryAfterS,
    });
  }
}
