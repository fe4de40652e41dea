/** The incident's plan: exponential backoff of 2 to 10 s. */
const MIN_DELAY_MS = 2_000;
const MAX_DELAY_MS = 10_000;
/** 420 s of obedience were measured in MLflow's own client; a server asks, it does not decide. */
const MAX_RETRY_AFTER_S = 10;

/**
 * Milliseconds to wait after try `attempt` (1 is the first) failed: uniform between 2 s and min(10 s, 2·2ⁿ s), and at
 * least what the server asked for, up to 10 s.
 * @param random a number in [0, 1)
 */
export function backoffMs(attempt: number, random: number, retryAfterS: number | null): number {
  const ceiling = Math.min(MAX_DELAY_MS, MIN_DELAY_MS * 2 ** attempt);
  const jittered = MIN_DELAY_MS + random * (ceiling - MIN_DELAY_MS);
  const asked = Math.min(retryAfterS ?? 0, MAX_RETRY_AFTER_S) * 1_000;
  return Math.max(jittered, asked);
}

/** Seconds that a `Retry-After` header asks for, as a number or a date; null where it says nothing. */
export function parseRetryAfter(header: string | undefined, now: number): number | null {
  if (header === undefined) return null;
  if (/^\d+$/.test(header.trim())) return Number(header);
  const date = Date.parse(header);
  return Number.isNaN(date) ? null : Math.max(0, (date - now) / 1_000);
}
