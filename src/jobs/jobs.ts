import { randomUUID } from 'node:crypto';
import type { Caller } from '../domain/caller.ts';
import type { Clock } from '../domain/clock.ts';
import { SidecarError } from '../domain/errors.ts';
import type { EventBus } from '../domain/events.ts';
import { formatModelUri, parseModelUri } from '../domain/model-uri.ts';
import type { Outcome } from '../domain/outcome.ts';
import { delay, unlessRunning, untilAborted, within } from '../policy/abort.ts';
import type { Reloader, ReloadRequest } from '../reload/api.ts';
import type { Job, JobRequest, Jobs } from './api.ts';
import { type Entry, Kept } from './kept.ts';
import type { JobRecord } from './record.ts';
import type { JobRecords } from './records.ts';

const CHECK_MS = 10_000;
/** How often it is looked whether another process has ended a job of its own. */
const FOREIGN_POLL_MS = 1_000;
/** It becomes part of a path. */
const ID = /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/;

export interface JobsOptions {
  readonly records: JobRecords;
  readonly reloader: Reloader;
  readonly clock: Clock;
  readonly events: EventBus;
}

/** Jobs of this process in memory, and those of all processes on the disk. */
export class KeptJobs implements Jobs {
  readonly #options: JobsOptions;
  readonly #kept: Kept;
  /** Not ended, of processes that were alive at the last look; null before the first one. */
  #foreign: readonly string[] | null = null;
  #timer: NodeJS.Timeout | null = null;
  #stopping = false;

  constructor(options: JobsOptions) {
    this.#options = options;
    this.#kept = new Kept(options.records, options.clock);
  }

  /** Goes on with what a process left that has ended, as soon as the cache directory can be read. */
  start(): void {
    const check = unlessRunning(() => this.#check());
    this.#timer = setInterval(check, CHECK_MS).unref();
    check();
  }

  /** Whoever waits is answered; what has not ended is gone on with by the next process. */
  stop(): void {
    this.#stopping = true;
    if (this.#timer !== null) clearInterval(this.#timer);
    for (const { over } of this.#kept.all) over.resolve();
  }

  /** Jobs of this process that have not ended. */
  get running(): number {
    return this.#kept.all.filter(({ record }) => record.end === null).length;
  }

  async begin(request: JobRequest): Promise<Job> {
    if (!(await this.#kept.makeRoom(request.uris.length))) throw tooMany(this.running);
    const { records } = this.#options;
    const entry = this.#kept.add(this.#recordOf(request));
    // Asked for before its end is.
    const saved = records.save(entry.record);
    this.#run(entry, request.caller, request, false);
    await saved;
    return viewOf(entry.record);
  }

  async find(id: string): Promise<Job | null> {
    const own = this.#kept.get(id);
    if (own !== undefined) return viewOf(own.record);
    const record = ID.test(id) ? await this.#options.records.read(id) : null;
    if (record === null || this.#kept.isExpired(record)) return null;
    return viewOf(await this.#adopted(record));
  }

  async wait(id: string, ms: number, signal: AbortSignal): Promise<Job | null> {
    const { clock } = this.#options;
    const until = clock.monotonic() + ms;
    for (;;) {
      const job = await this.find(id);
      const leftMs = until - clock.monotonic();
      if (job === null || job.end !== null || leftMs <= 0 || signal.aborted || this.#stopping) return job;
      const own = this.#kept.get(id);
      const change =
        own === undefined
          ? delay(Math.min(leftMs, FOREIGN_POLL_MS), signal)
          : untilAborted(within(leftMs, own.over.promise), signal);
      await change.catch(() => undefined);
    }
  }

  async remove(id: string): Promise<boolean> {
    if ((await this.find(id)) === null) return false;
    const own = this.#kept.get(id);
    await this.#kept.forget(id);
    own?.unwanted.abort(new SidecarError('job_unknown', 'The job was removed.'));
    own?.over.resolve();
    return true;
  }

  #recordOf({ caller, ...request }: JobRequest): JobRecord {
    const { clock, records } = this.#options;
    const now = clock.now();
    return {
      format: 1,
      id: randomUUID(),
      process: records.process,
      model_uris: request.uris.map(formatModelUri),
      is_list: request.isList,
      begun_at: now / 1_000,
      deadline_at: (now + request.deadlineAt - clock.monotonic()) / 1_000,
      refresh_wait_s: request.refreshWaitMs / 1_000,
      max_stale_s: request.maxStaleMs / 1_000,
      force: request.force,
      own_credential: caller.authorization === null,
      request_id: caller.requestId,
      airflow: { ...caller.airflow },
      end: null,
    };
  }

  #run(entry: Entry, caller: Caller, times: Times, isResumed: boolean): void {
    const { record } = entry;
    const { reloader, events } = this.#options;
    const ofJob = { ...caller, jobId: record.id };
    events.emit({ type: 'job_begun', caller: ofJob, modelUris: record.model_uris, isResumed });
    const isLost = !record.own_credential && caller.authorization === null;
    const outcomes = record.model_uris.map(async text => {
      const request: ReloadRequest = {
        uri: parseModelUri(text),
        caller: ofJob,
        startedAt: times.startedAt,
        deadlineAt: times.deadlineAt,
        refreshWaitMs: record.refresh_wait_s * 1_000,
        maxStaleMs: record.max_stale_s * 1_000,
        force: record.force,
        unwanted: entry.unwanted.signal,
      };
      return isLost ? reloader.refuse(request, credentialLost()) : await reloader.reload(request);
    });
    void Promise.all(outcomes).then(all => this.#end(entry, all));
  }

  #end(entry: Entry, [first, ...others]: readonly Outcome[]): void {
    // What ended with the process is not the job's end.
    if (this.#stopping || entry.unwanted.signal.aborted || first === undefined) return;
    const at = this.#options.clock.now() / 1_000;
    entry.record = { ...entry.record, end: { at, outcomes: [first, ...others] } };
    entry.over.resolve();
    void this.#options.records.save(entry.record);
  }

  /** What nobody works on any more is gone on with here. */
  async #adopted(record: JobRecord): Promise<JobRecord> {
    if (record.end !== null || this.#stopping) return record;
    const { records, clock } = this.#options;
    const isForeign = await records.isWorkedOn(record.process);
    const known = this.#kept.get(record.id);
    if (known !== undefined || isForeign) return known?.record ?? record;
    const entry = this.#kept.add({ ...record, process: records.process });
    const saved = records.save(entry.record);
    const startedAt = clock.monotonic();
    // MLflow has its time to answer, however long nobody worked on it.
    const leftMs = Math.max(record.deadline_at * 1_000 - clock.now(), record.refresh_wait_s * 1_000);
    const caller = { requestId: record.request_id, airflow: record.airflow, authorization: null };
    this.#run(entry, caller, { startedAt, deadlineAt: startedAt + leftMs }, true);
    await saved;
    return entry.record;
  }

  async #check(): Promise<void> {
    await this.#kept.expire();
    const { records } = this.#options;
    if (!records.isOpen) return;
    const foreign: string[] = [];
    for (const id of this.#foreign ?? (await records.ids())) {
      const record = this.#kept.get(id) === undefined ? await records.read(id) : null;
      if (record === null) continue;
      if (this.#kept.isExpired(record)) await records.remove(id);
      // The ends that other processes left are limited together with our own.
      else if (record.end !== null) this.#kept.add(record);
      else if ((await this.#adopted(record)).process !== records.process) foreign.push(id);
    }
    this.#foreign = foreign;
    await this.#kept.makeRoom(0);
  }
}

type Times = Pick<ReloadRequest, 'startedAt' | 'deadlineAt'>;

function tooMany(running: number): SidecarError {
  return new SidecarError('overloaded', `${running} asynchronous reloads are under way already.`, {
    hint: 'Come back after Retry-After, or end some with DELETE /v1/jobs/{id}.',
  });
}

function credentialLost(): SidecarError {
  const message =
    'The sidecar was restarted, and does not keep the credential of the caller, by which this was asked for.';
  return new SidecarError('access_denied', message, { hint: 'Reload again.' });
}

function viewOf({ id, is_list: isList, begun_at: begunAt, end }: JobRecord): Job {
  if (end === null) return { id, isList, end };
  return { id, isList, end: { outcomes: end.outcomes, durationS: Math.max(0, end.at - begunAt) } };
}
