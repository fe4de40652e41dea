import { type SidecarError, toSidecarError } from '../domain/errors.ts';
import { delay, withTimeout } from './abort.ts';
import { backoffMs } from './backoff.ts';

/** How often and how long one request is tried. Times in milliseconds. */
export interface RetryPlan {
  readonly attempts: number;
  /** One try, its body included. */
  readonly tryTimeoutMs: number;
  /** All tries and the waits between them. */
  readonly budgetMs: number;
}

export interface RetryHooks {
  readonly isTransient: (error: SidecarError) => boolean;
  readonly timeoutError: (ms: number) => SidecarError;
  /** `retryInMs` is null where no further try follows. */
  readonly onFailure: (attempt: number, error: SidecarError, retryInMs: number | null) => void;
}

/**
 * Tries `work` until it succeeds, fails for good, or its tries, its budget or the caller's signal end.
 * @throws the last try's `SidecarError`, or the signal's reason
 */
export async function retry<T>(
  plan: RetryPlan,
  hooks: RetryHooks,
  signal: AbortSignal,
  work: (signal: AbortSignal, attempt: number) => Promise<T>,
): Promise<T> {
  let last: SidecarError | null = null;
  const overBudget = () => last ?? hooks.timeoutError(plan.budgetMs);
  return await withTimeout(plan.budgetMs, signal, overBudget, async budget => {
    for (let attempt = 1; ; attempt++) {
      try {
        return await withTimeout(
          plan.tryTimeoutMs,
          budget,
          () => hooks.timeoutError(plan.tryTimeoutMs),
          inner => work(inner, attempt),
        );
      } catch (error) {
        if (budget.aborted) throw error;
        last = toSidecarError(error);
      }
      const retryInMs = waitBeforeNext(plan, hooks, attempt, last);
      hooks.onFailure(attempt, last, retryInMs);
      if (retryInMs === null) throw last;
      await delay(retryInMs, budget);
    }
  });
}

function waitBeforeNext(
  plan: RetryPlan,
  hooks: RetryHooks,
  attempt: number,
  error: SidecarError,
): number | null {
  if (attempt >= plan.attempts || !hooks.isTransient(error)) return null;
  return backoffMs(attempt, Math.random(), error.retryAfterS);
}
