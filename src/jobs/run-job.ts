import type { Caller } from '../domain/caller.ts';
import { type Clock, steady } from '../domain/clock.ts';
import { SidecarError } from '../domain/errors.ts';
import type { EventBus } from '../domain/events.ts';
import { parseModelUri } from '../domain/model-uri.ts';
import type { Outcome } from '../domain/outcome.ts';
import type { Reloader, ReloadRequest } from '../reload/api.ts';
import type { Entry } from './kept.ts';
import type { JobRecord } from './record.ts';

export type Times = Pick<ReloadRequest, 'startedAt' | 'deadlineAt'>;

/**
 * Makes the calls that a job is.
 * @param refused why none of them is made
 */
export async function runJob(
  { reloader, events }: { readonly reloader: Reloader; readonly events: EventBus },
  { record, unwanted }: Pick<Entry, 'record' | 'unwanted'>,
  caller: Caller,
  { startedAt, deadlineAt }: Times,
  refused: SidecarError | null,
): Promise<readonly [Outcome, ...Outcome[]]> {
  const ofJob = { ...caller, jobId: record.id };
  events.emitSoon({
    type: 'job_begun',
    caller: ofJob,
    modelUris: record.model_uris,
    isResumed: record.resumed > 0,
  });
  const call = async (uri: string) => {
    const request: ReloadRequest = {
      uri: parseModelUri(uri),
      caller: ofJob,
      startedAt,
      deadlineAt,
      refreshWaitMs: record.refresh_wait_s * 1_000,
      maxStaleMs: record.max_stale_s * 1_000,
      force: record.force,
      unwanted: unwanted.signal,
    };
    return refused === null ? await reloader.reload(request) : reloader.refuse(request, refused);
  };
  const [first, ...others] = record.model_uris;
  return await Promise.all([call(first), ...others.map(call)]);
}

/** What is left of a job's deadline; MLflow has its time to answer, however long nobody worked on it. */
export function timesLeft(record: JobRecord, clock: Clock): Times {
  const startedAt = clock.monotonic();
  const leftS = record.deadline_at - steady(clock) / 1_000;
  // By a clock that was set back it would be more than was asked for.
  const most = Math.max(leftS, record.refresh_wait_s);
  return { startedAt, deadlineAt: startedAt + Math.min(most, record.deadline_at - record.begun_at) * 1_000 };
}

export function credentialLost(): SidecarError {
  const message =
    'The sidecar was restarted, and does not keep the credential of the caller, by which this was asked for.';
  return new SidecarError('access_denied', message, { hint: 'Reload again.' });
}

export function resumedTooOften(): SidecarError {
  return new SidecarError('internal', 'The sidecar ended each time while it worked on this.', {
    hint: 'Look into its log, and for a limit to its memory.',
  });
}
