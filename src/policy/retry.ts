import { type SidecarError, toSidecarError } from '../domain/errors.ts';
import { delay, withTimeout } from './abort.ts';
import { backoffMs } from './backoff.ts';
import type { Breaker } from './breaker.ts';
import { isServerFault, type Subject } from './breaker-rules.ts';

/** How often and how long one request is tried. Times in milliseconds. */
export interface RetryPlan {
  readonly attempts: number;
  /** One try, its body included. */
  readonly tryTimeoutMs: number;
  /** All tries and the waits between them. */
  readonly budgetMs: number;
}

export interface RetryHooks<T = unknown> {
  /** Of the server that is asked: it may refuse a try, and learns how each ends. */
  readonly breaker?: Breaker | undefined;
  /** What is asked. */
  readonly item?: string;
  /** Names the tries that are made together with this one. */
  readonly together?: string | undefined;
  /** Each try asks the breaker itself, since it waits for something else before it leaves. */
  readonly passesByItself?: true;
  /** Whether a result tells the breaker nothing, such as a definite no. */
  readonly isNeutral?: (result: T) => boolean;
  /** Its caller may have nothing else to give: a wait between tries ends as soon as the server is back. */
  readonly isPatient?: boolean | undefined;
  readonly isTransient: (error: SidecarError) => boolean;
  readonly timeoutError: (ms: number) => SidecarError;
  /** `retryInMs` is null where no further try follows. */
  readonly onFailure: (attempt: number, error: SidecarError, retryInMs: number | null) => void;
}

/**
 * Tries `work` until it succeeds, fails for good, or its tries, its budget or the caller's signal end.
 * A breaker that opens meanwhile ends it at once: no further try would be let through.
 * @throws the last try's `SidecarError`, the breaker's refusal of the first, or the signal's reason
 */
export async function retry<T>(
  plan: RetryPlan,
  hooks: RetryHooks<T>,
  signal: AbortSignal,
  work: (signal: AbortSignal, attempt: number) => Promise<T>,
): Promise<T> {
  let last: SidecarError | null = null;
  const overBudget = () => last ?? hooks.timeoutError(plan.budgetMs);
  const tooSlow = () => hooks.timeoutError(plan.tryTimeoutMs);
  return await withTimeout(plan.budgetMs, signal, overBudget, async budget => {
    for (let attempt = 1; ; attempt++) {
      try {
        return await guarded(hooks, attempt, budget, () =>
          withTimeout(plan.tryTimeoutMs, budget, tooSlow, inner => work(inner, attempt)),
        );
      } catch (error) {
        if (budget.aborted) throw error;
        const failure = toSidecarError(error);
        if (failure.code === 'circuit_open') throw last ?? failure;
        last = failure;
      }
      const retryInMs = waitBeforeNext(plan, hooks, attempt, last);
      hooks.onFailure(attempt, last, retryInMs);
      if (retryInMs === null) throw last;
      await pause(retryInMs, budget, hooks, last);
    }
  });
}

async function guarded<T>(
  hooks: RetryHooks<T>,
  attempt: number,
  signal: AbortSignal,
  work: () => Promise<T>,
): Promise<T> {
  const { breaker, passesByItself, isNeutral } = hooks;
  if (breaker === undefined || passesByItself) return await work();
  return await breaker.run(signal, work, isNeutral, subjectOf(hooks, attempt));
}

/** Later tries are not made together with the first. */
function subjectOf(
  { item, together }: Pick<RetryHooks, 'item' | 'together'>,
  attempt: number,
): Subject | null {
  if (item === undefined) return null;
  return { item, together: together === undefined ? undefined : `${together} ${attempt}` };
}

async function pause(
  ms: number,
  budget: AbortSignal,
  { breaker, isPatient }: Pick<RetryHooks, 'breaker' | 'isPatient'>,
  last: SidecarError,
): Promise<void> {
  if (breaker === undefined) return await delay(ms, budget);
  const { opening, recovery } = breaker;
  const { back } = recovery;
  try {
    // A server that says when to come back means it, and one that gives wrong bytes is there.
    const isDown = isServerFault(last) && last.retryAfterS === null;
    if (isPatient !== true || !isDown) return await delay(ms, budget, opening);
    recovery.failed(last);
    await recovery.during(() => delay(ms, budget, opening, back));
  } catch (error) {
    if (budget.aborted) throw error;
    if (!back.aborted) throw last;
  }
}

function waitBeforeNext(
  plan: RetryPlan,
  hooks: Pick<RetryHooks, 'breaker' | 'item' | 'isTransient' | 'passesByItself'>,
  attempt: number,
  error: SidecarError,
): number | null {
  // Who asks the breaker by itself may wait for a trial's end.
  const isWaitedFor = hooks.passesByItself === true && (hooks.breaker?.trial ?? null) !== null;
  const isRefused = !isWaitedFor && (hooks.breaker?.refusal(hooks.item) ?? null) !== null;
  if (isRefused || attempt >= plan.attempts || error.permanent || !hooks.isTransient(error)) return null;
  return backoffMs(attempt, Math.random(), error.retryAfterS);
}
