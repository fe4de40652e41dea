import { type SidecarError, toSidecarError } from '../domain/errors.ts';
import type { Breaker } from './breaker.ts';
import { isServerFault } from './breaker-rules.ts';

/** Of a call that may have nothing else to give. */
export interface Patience {
  /** On the monotonic clock, in milliseconds: how long it waits for a server that has an outage. */
  readonly until: number;
  /** Whether it does wait, or has something else to give. */
  readonly waits: (failure: SidecarError) => boolean | Promise<boolean>;
}

export interface Outage {
  readonly breaker: Breaker | undefined;
  readonly item: string;
  /** None for a call that waits for no outage to end. */
  readonly patience: Patience | undefined;
  readonly signal: AbortSignal;
  /** Told before it waits. */
  readonly onWait?: ((failure: SidecarError) => void) | undefined;
}

/**
 * Does `work`, with all of its tries; where they are used up by an outage, or the breaker refuses them, it waits for the server to
 * come back and does it again. A server that never answered has no outage: its address is wrong.
 * @throws what `work` throws where that is definite, or there is no patience with it
 */
export async function throughOutages<T>(outage: Outage, work: () => Promise<T>): Promise<T> {
  const { breaker, item, patience, signal, onWait } = outage;
  if (breaker === undefined || patience === undefined) return await work();
  for (;;) {
    try {
      const result = await work();
      breaker.recovery.succeeded(item);
      return result;
    } catch (error) {
      signal.throwIfAborted();
      const failure = toSidecarError(error);
      if (!isOutage(failure) || !breaker.hasAnswered || !(await patience.waits(failure))) throw error;
      onWait?.(failure);
      await breaker.recovery.wait(item, failure, patience.until, signal);
    }
  }
}

/** What can pass without anybody's help. */
function isOutage(error: SidecarError): boolean {
  return error.code === 'circuit_open' || (isServerFault(error) && !error.permanent);
}
