import { SidecarError } from '../domain/errors.ts';
import type { Scope } from '../domain/scope.ts';
import { isSameVersion } from '../domain/version.ts';
import type { Ref } from '../store/records/ref-record.ts';
import type { ReloadRequest } from './api.ts';
import type { Run } from './run.ts';
import { type Fallback, judgeLate, judgeUnobtained, judgeUnresolved, type Verdict } from './verdict.ts';

/** How long a cached version is given while MLflow refuses the sidecar's own credential; a caller's own is not borne with. */
export const REFUSED_GRACE_MS = 24 * 3_600_000;

/** A call and what the cache holds for it. */
export interface Case {
  readonly request: ReloadRequest;
  readonly scope: Scope;
  readonly before: Ref;
  readonly fallback: Fallback;
  readonly run: Run;
  /** Why the server of this question was left alone when the call came; null where it was not. */
  readonly refused: SidecarError | null;
}

/** What a ref can give, at `now`. Times in milliseconds. */
export function fallbackOf(
  { published, confirmedAt, refusedAt }: Ref,
  scope: Scope,
  maxStaleMs: number,
  now: number,
): Fallback {
  const ageMs = published === null || confirmedAt === null ? null : Math.max(0, now - confirmedAt);
  const graceMs = scope.own ? REFUSED_GRACE_MS : 0;
  const isRefused = refusedAt !== null && now - refusedAt >= graceMs;
  return {
    usable: ageMs !== null && ageMs <= maxStaleMs && !isRefused,
    ageS: ageMs === null ? null : ageMs / 1_000,
    maxStaleS: maxStaleMs / 1_000,
    ownCredential: scope.own,
  };
}

/**
 * Why the wait for the wanted version ended without it.
 * @param health what MLflow's health says about it
 */
export function noAnswer({ run }: Case, registryUri: string, waitedMs: number, health: string): SidecarError {
  const message = `MLflow at ${registryUri} did not say within ${Math.round(waitedMs) / 1_000} s which version is wanted`;
  const last = run.lastFailure;
  if (last === null) return new SidecarError('mlflow_timeout', `${message}.${health}`);
  return new SidecarError(last.code, `${message}. ${last.message}${health}`, {
    hint: last.hint ?? undefined,
    cause: last,
  });
}

export function deadlineExceeded({ request, run }: Case): SidecarError {
  const deadlineS = Math.round(request.deadlineAt - request.startedAt) / 1_000;
  const version = run.resolution?.version.version ?? null;
  const doing =
    run.resolution === null
      ? 'waiting for MLflow to name the version'
      : `fetching version ${version ?? 'of the run'}`;
  const last = run.lastFailure === null ? '' : ` Last failure: ${run.lastFailure.message}`;
  return new SidecarError(
    'deadline_exceeded',
    `The deadline of ${deadlineS} s passed while ${doing}.${last}`,
    {
      hint: 'The work goes on in the background: ask again, or allow a longer deadline_s.',
    },
  );
}

/** Nothing could be given by the deadline; the run goes on. */
export function late(c: Case): Verdict {
  const error = deadlineExceeded(c);
  const reason = c.run.resolution === null ? judgeLate(error, c.run.lastFailure, c.fallback) : error;
  return { kind: 'failed', error: reason, wanted: wantedBy(c), refreshing: true };
}

/** The last good version. */
export function stale(error: SidecarError, c: Case): Verdict {
  return { kind: 'stale', error, wanted: wantedBy(c), refreshing: !c.run.isOver };
}

/** What an error of the run means for the call. */
export function judge(error: SidecarError, c: Case): Verdict {
  if (c.run.resolution === null) return judgeUnresolved(error, c.fallback);
  return judgeUnobtained(error, wantedBy(c), c.fallback);
}

/** The version that MLflow named, where it is another than the published one. */
function wantedBy({ run: { resolution }, before }: Case): string | null {
  if (resolution === null) return null;
  const isPublished =
    before.published !== null && isSameVersion(before.published.version, resolution.version);
  return isPublished ? null : resolution.version.version;
}
