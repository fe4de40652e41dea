import type { Run } from './run.ts';

/**
 * Lets callers share runs without giving any of them an answer that is older than its call: whoever comes while the
 * registry is being asked joins the next question, which is asked when this one has been answered. "A reload after a
 * training means the new model" holds only so.
 */
export class Runs {
  readonly #asking = new Map<string, { readonly now: Run; readonly next: Run | null }>();
  #inFlight = 0;
  #joined = 0;

  /** Runs that have begun and are not over. */
  get inFlight(): number {
    return this.#inFlight;
  }

  /** Calls so far that another call's run was found for. */
  get joined(): number {
    return this.#joined;
  }

  /**
   * @param key equal for calls that the same question answers
   * @param hasNothing whether the caller has nothing else to give
   */
  join(key: string, make: (before: Run | null) => Run, hasNothing?: Promise<boolean>): Run {
    const run = this.#find(key, make);
    run.join(hasNothing);
    return run;
  }

  #find(key: string, make: (before: Run | null) => Run): Run {
    const asking = this.#asking.get(key);
    if (asking === undefined) return this.#begin(key, make(null));
    if (asking.next !== null && !asking.next.isStopped) {
      this.#joined++;
      return asking.next;
    }
    const next = make(asking.now);
    this.#asking.set(key, { now: asking.now, next });
    return next;
  }

  #begin(key: string, run: Run): Run {
    this.#asking.set(key, { now: run, next: null });
    this.#inFlight++;
    void run.start().finally(() => this.#inFlight--);
    run.resolved.then(
      () => this.#goOn(key),
      () => this.#goOn(key),
    );
    return run;
  }

  #goOn(key: string): void {
    const next = this.#asking.get(key)?.next ?? null;
    if (next === null) this.#asking.delete(key);
    else this.#begin(key, next);
  }
}
