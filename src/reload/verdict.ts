import { type ErrorCode, isMissing, SidecarError } from '../domain/errors.ts';
import type { RunResult } from './run.ts';

/** What a call comes to, before it is written out as an outcome. */
export type Verdict =
  | ({ readonly kind: 'given' } & RunResult)
  | {
      readonly kind: 'stale';
      readonly error: SidecarError;
      readonly wanted: string | null;
      readonly refreshing: boolean;
    }
  | { readonly kind: 'missing'; readonly error: SidecarError }
  | {
      readonly kind: 'failed';
      readonly error: SidecarError;
      readonly wanted: string | null;
      readonly refreshing: boolean;
    };

const NO_ANSWER: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'mlflow_unreachable',
  'mlflow_timeout',
  'mlflow_error',
  'circuit_open',
  'overloaded',
]);

/** What the cache could give instead. */
export interface Fallback {
  /** A complete snapshot, confirmed within what the caller takes as fresh enough, and not refused for too long. */
  readonly usable: boolean;
  /** Seconds since the published version was confirmed; null where nothing is published. */
  readonly ageS: number | null;
  readonly maxStaleS: number;
  /** Whether the credential is the sidecar's own. */
  readonly ownCredential: boolean;
}

/** MLflow did not say which version is wanted. */
export function judgeUnresolved(error: SidecarError, fallback: Fallback): Verdict {
  if (isMissing(error.code)) return { kind: 'missing', error };
  const failed: Verdict = { kind: 'failed', error, wanted: null, refreshing: false };
  if (error.code === 'access_denied' && !fallback.ownCredential) return failed;
  if (fallback.usable) return { kind: 'stale', error, wanted: null, refreshing: false };
  return isTooOld(error, fallback) ? { ...failed, error: tooStale(error, fallback) } : failed;
}

/** The deadline came before MLflow said which version is wanted. @param last why it had not */
export function judgeLate(error: SidecarError, last: SidecarError | null, fallback: Fallback): SidecarError {
  return last !== null && isTooOld(last, fallback) ? tooStale(error, fallback) : error;
}

/** MLflow named a version, and that one could not be had, whatever the reason. */
export function judgeUnobtained(error: SidecarError, wanted: string | null, fallback: Fallback): Verdict {
  if (fallback.usable) return { kind: 'stale', error, wanted, refreshing: false };
  if (isMissing(error.code)) return { kind: 'missing', error };
  return { kind: 'failed', error, wanted, refreshing: false };
}

/** Whether the cached version would be given, were it not too old. */
function isTooOld(error: SidecarError, { ageS, maxStaleS }: Fallback): boolean {
  return (ageS ?? 0) > maxStaleS && NO_ANSWER.has(error.code);
}

function tooStale(cause: SidecarError, { ageS, maxStaleS }: Fallback): SidecarError {
  const message = `The cached version was confirmed ${Math.round(ageS ?? 0)} s ago, more than max_stale_s (${maxStaleS} s) allows. ${cause.message}`;
  return new SidecarError('too_stale', message, {
    hint: 'Raise max_stale_s to take it all the same.',
    cause,
    retryAfterS: cause.retryAfterS ?? undefined,
  });
}
