import { randomUUID } from 'node:crypto';
import { SidecarError, toSidecarError } from '../domain/errors.ts';
import type { Fetched, Phases } from '../domain/events.ts';
import type { Breaker } from '../policy/breaker.ts';
import type { Resolution } from '../registry/resolution.ts';

/** How a run ended well. */
export interface RunResult {
  readonly status: 'loaded' | 'unchanged';
  readonly source: 'mlflow' | 'cache';
}

/** What the work behind a run tells it as it goes. */
export interface RunProgress {
  resolved(resolution: Resolution): void;
  tried(attempt: number): void;
  tryFailed(error: SidecarError): void;
  took(phases: Phases): void;
  fetched(amount: Fetched): void;
  needs(breakers: readonly Breaker[]): void;
  /** @param failures of the download that it waits for from now on */
  follow(failures: { readonly last: SidecarError | null }): void;
}

type Work = (progress: RunProgress, stopped: AbortSignal) => Promise<RunResult>;

/**
 * One piece of work that callers join. They wait for it as long as they like, and it goes on without them, unless each of
 * them said that it is not wanted any more.
 */
export class Run {
  readonly id = randomUUID();
  /** Which version is wanted; rejects where the registry names none. */
  readonly resolved: Promise<Resolution>;
  readonly done: Promise<RunResult>;
  readonly #work: Work;
  #before: Run | null;
  readonly #resolved = Promise.withResolvers<Resolution>();
  readonly #done = Promise.withResolvers<RunResult>();
  #resolution: Resolution | null = null;
  #lastFailure: SidecarError | null = null;
  #download: { readonly last: SidecarError | null } | null = null;
  #attempts = 0;
  #phases: Phases = {};
  #fetched: Fetched | null = null;
  readonly #breakers = new Set<Breaker>();
  readonly #stopping = new AbortController();
  #wantedBy = 0;
  #isPatient = Promise.resolve(false);
  #isOver = false;

  /** @param before the run that asks the same question now, and that this one waits for */
  constructor(work: Work, before: Run | null) {
    this.#work = work;
    this.#before = before;
    this.resolved = this.#resolved.promise;
    this.done = this.#done.promise;
    // Callers may have left; a failure is told by the run's own event.
    this.resolved.catch(() => undefined);
    this.done.catch(() => undefined);
  }

  get resolution(): Resolution | null {
    return this.#resolution;
  }

  get phases(): Phases {
    return this.#phases;
  }

  get fetched(): Fetched | null {
    return this.#fetched;
  }

  /** Tries that the most retried request needed so far. */
  get attempts(): number {
    return this.#attempts;
  }

  /** The last try that failed, though a later one may yet succeed; before the first, of the run that this one waits for. */
  get lastFailure(): SidecarError | null {
    return this.#download?.last ?? this.#lastFailure ?? this.#before?.lastFailure ?? null;
  }

  /** Of the servers that it asked, and of those that it fetches from. */
  get breakers(): readonly Breaker[] {
    return [...this.#breakers];
  }

  /** Whether it waits for the run before it. */
  get isWaiting(): boolean {
    return this.#before !== null;
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  /** Whether nobody wanted it any more before it was over. */
  get isStopped(): boolean {
    return this.#stopping.signal.aborted;
  }

  /**
   * One more wants it.
   * @param hasNothing whether its caller has nothing else to give
   */
  join(hasNothing: Promise<boolean> = Promise.resolve(false)): void {
    this.#wantedBy++;
    const either = Promise.all([this.#isPatient, hasNothing.catch(() => false)]);
    this.#isPatient = either.then(([before, more]) => before || more);
  }

  /** Whether it waits for an outage to end, since somebody has nothing else to give; with or without callers that still wait. */
  get isPatient(): Promise<boolean> {
    return this.#isPatient;
  }

  /** One fewer wants it; with the last one it stops. A caller that only cannot wait any longer leaves it wanted. */
  leave(): void {
    this.#wantedBy--;
    if (this.#wantedBy > 0 || this.#isOver) return;
    const error = new SidecarError('internal', 'Nobody wants it any more.');
    this.#stopping.abort(error);
    // Also where it never begins.
    this.#fail(error);
  }

  async start(): Promise<void> {
    this.#before = null;
    try {
      this.#done.resolve(await this.#work(this.#progress(), this.#stopping.signal));
    } catch (error) {
      this.#fail(toSidecarError(error));
    } finally {
      this.#isOver = true;
    }
  }

  #fail(error: SidecarError): void {
    this.#resolved.reject(error);
    this.#done.reject(error);
  }

  #progress(): RunProgress {
    return {
      resolved: resolution => {
        this.#resolution = resolution;
        this.#resolved.resolve(resolution);
      },
      tried: attempt => {
        this.#attempts = Math.max(this.#attempts, attempt);
      },
      tryFailed: error => {
        this.#lastFailure = error;
      },
      took: phases => {
        this.#phases = { ...this.#phases, ...phases };
      },
      fetched: amount => {
        this.#fetched = amount;
      },
      needs: breakers => {
        for (const breaker of breakers) this.#breakers.add(breaker);
      },
      follow: failures => {
        this.#download = failures;
      },
    };
  }
}
