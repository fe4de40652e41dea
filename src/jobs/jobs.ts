import type { Caller } from '../domain/caller.ts';
import { type Clock, steady } from '../domain/clock.ts';
import { SidecarError } from '../domain/errors.ts';
import type { EventBus } from '../domain/events.ts';
import { delay, unlessRunning } from '../policy/abort.ts';
import type { Reloader } from '../reload/api.ts';
import type { Job, JobEnd, JobRequest, Jobs } from './api.ts';
import { type Entry, Kept, MOST_ANSWERS } from './kept.ts';
import { isSameTry, type JobRecord, recordOf } from './record.ts';
import { type JobRecords, UNKNOWN } from './records.ts';
import { credentialLost, resumedTooOften, runJob, type Times, timesLeft } from './run-job.ts';

const CHECK_MS = 10_000;
/** How often it is looked whether another process has ended a job of its own. */
const FOREIGN_POLL_MS = 1_000;
/** Every job has ended so long after its deadline, whatever else is said of the process that works on it. */
const OVERDUE_S = 60;
/** A job that ends its process each time must not do so for ever. */
const MOST_RESUMED = 3;
/** It becomes part of a path. */
const ID = /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/;

export interface JobsOptions {
  readonly records: JobRecords;
  readonly reloader: Reloader;
  /** The id of the sidecar's own scope. */
  readonly scope: string;
  readonly clock: Clock;
  readonly events: EventBus;
}

/** Jobs of this process in memory, and those of all processes on the disk. */
export class KeptJobs implements Jobs {
  readonly #options: JobsOptions;
  readonly #kept: Kept;
  /** Those on the disk that are to be looked at; null before it said which there are. */
  #others: readonly string[] | null = null;
  /** Records on their way to the disk. */
  readonly #saving = new Set<JobRecord>();
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

  /** Whoever waits is answered; what has not ended is gone on with by the next process. Resolves when the ends are saved. */
  async stop(): Promise<void> {
    this.#stopping = true;
    if (this.#timer !== null) clearInterval(this.#timer);
    for (const { over } of this.#kept.all) over.resolve();
    await this.#options.records.idle();
  }

  /** Jobs of this process that have not ended. */
  get running(): number {
    return this.#kept.running.length;
  }

  async begin(request: JobRequest): Promise<Job> {
    if (this.#stopping) throw refusal('The sidecar is stopping.');
    const { records, scope, clock } = this.#options;
    const record = recordOf(request, { process: records.process, scope, clock });
    const same = this.#kept.running.find(entry => isSameTry(entry.record, record));
    if (same !== undefined) return viewOf(same.record);
    if (!this.#kept.makeRoom(request.uris.length))
      throw refusal(`Asynchronous reloads of ${MOST_ANSWERS} models are under way already.`);
    const entry = this.#kept.add(record, false);
    // Asked for before its end is.
    const saved = this.#save(entry);
    this.#run(entry, request.caller, request);
    await saved;
    // As it was, though it may have ended meanwhile.
    return viewOf(record);
  }

  async find(id: string): Promise<Job | null> {
    const own = this.#kept.get(id);
    if (own !== undefined) return viewOf(own.record);
    const record = await this.#read(id);
    const current = record === null ? null : await this.#adopted(record);
    return current === null ? null : viewOf(current);
  }

  async wait(id: string, ms: number, signal: AbortSignal): Promise<Job | null> {
    const { clock } = this.#options;
    const until = clock.monotonic() + ms;
    for (;;) {
      // It may be removed while it is looked for.
      const before = this.#kept.get(id);
      const job = await this.find(id);
      const leftMs = until - clock.monotonic();
      if (job === null || job.end !== null || leftMs <= 0 || signal.aborted || this.#stopping) return job;
      await change(before ?? this.#kept.get(id), leftMs, signal);
    }
  }

  async remove(id: string): Promise<boolean> {
    if (this.#kept.get(id) === undefined && (await this.#read(id)) === null) return false;
    await this.#kept.forget(id);
    return true;
  }

  /** The record of another process, of this registry. */
  async #read(id: string): Promise<JobRecord | null> {
    if (!ID.test(id) || this.#kept.isGone(id)) return null;
    const record = await this.#options.records.read(id);
    if (record === UNKNOWN) throw refusal('The disk that jobs are kept on does not answer.');
    const isOther = record === null || record.scope !== this.#options.scope;
    return isOther || this.#kept.isExpired(record) ? null : record;
  }

  #run(entry: Entry, caller: Caller, times: Times, refused: SidecarError | null = null): void {
    const outcomes = runJob(this.#options, entry, caller, times, refused);
    void outcomes.then(all => this.#end(entry, all));
  }

  #end(entry: Entry, outcomes: JobEnd['outcomes']): void {
    // What ended with the process, or is not wanted any more, is not the job's end.
    if (this.#stopping || this.#kept.get(entry.record.id) !== entry) return;
    const at = steady(this.#options.clock) / 1_000;
    entry.record = { ...entry.record, end: { at, outcomes: [...outcomes] } };
    entry.over.resolve();
    void this.#save(entry);
  }

  /** Where somebody else removed it, it is removed here, too. */
  async #save(entry: Entry): Promise<void> {
    const { records } = this.#options;
    const { record } = entry;
    this.#saving.add(record);
    const saving = entry.isSaved ? records.replace(record) : records.save(record);
    const result = await saving.finally(() => this.#saving.delete(record));
    if (result === 'gone') this.#kept.drop(record.id);
    else if (entry.record === record) entry.isSaved = result === 'saved';
  }

  /** What nobody works on any more is gone on with here. Null where it is gone. */
  async #adopted(record: JobRecord): Promise<JobRecord | null> {
    const { records } = this.#options;
    if (record.end !== null || this.#stopping) return record;
    const isOverdue = steady(this.#options.clock) / 1_000 > record.deadline_at + OVERDUE_S;
    const isOurs = record.process === records.process;
    const isAlive = isOurs ? false : await records.isAlive(record.process);
    const known = this.#kept.get(record.id);
    if (known !== undefined) return known.record;
    // Our own that we do not know was removed a moment ago.
    if (isOurs || this.#kept.isGone(record.id)) return null;
    if (isAlive !== false && !isOverdue) return record;
    return await this.#resume(record);
  }

  async #resume(record: JobRecord): Promise<JobRecord> {
    const { records, clock } = this.#options;
    const times = timesLeft(record, clock);
    const deadlineAt = (steady(clock) + times.deadlineAt - times.startedAt) / 1_000;
    const resumed = {
      ...record,
      process: records.process,
      resumed: record.resumed + 1,
      deadline_at: deadlineAt,
    };
    const entry = this.#kept.add(resumed, false);
    const saved = this.#save(entry);
    const caller = { requestId: record.request_id, airflow: record.airflow, authorization: null };
    if (!record.own_credential) this.#run(entry, caller, times, credentialLost());
    else if (resumed.resumed > MOST_RESUMED) this.#run(entry, caller, times, resumedTooOften());
    else this.#run(entry, caller, times);
    await saved;
    return entry.record;
  }

  async #check(): Promise<void> {
    await this.#kept.tidy();
    for (const entry of this.#kept.all) if (!this.#stopping) await this.#checkOwn(entry);
    const others = this.#others ?? (await this.#options.records.ids());
    if (others === UNKNOWN) return;
    const left: string[] = [];
    for (const id of others) if (this.#stopping || !(await this.#isSettled(id))) left.push(id);
    this.#others = left;
    this.#kept.makeRoom(0);
  }

  /** Saves what could not be saved, and heeds it where another process removed a job of ours, or took it for its own. */
  async #checkOwn(entry: Entry): Promise<void> {
    // A second time it might bring back what somebody removed meanwhile.
    if (this.#saving.has(entry.record)) return;
    if (!entry.isSaved) return await this.#save(entry);
    if (entry.record.end !== null) return;
    const { records } = this.#options;
    const found = await records.read(entry.record.id);
    if (found === UNKNOWN || !entry.isSaved || found?.process === records.process) return;
    this.#kept.drop(entry.record.id);
  }

  /** Whether there is nothing left to look for in the record of another process. */
  async #isSettled(id: string): Promise<boolean> {
    const { records, scope } = this.#options;
    if (this.#kept.get(id) !== undefined || this.#kept.isGone(id)) return true;
    const record = await records.read(id);
    if (record === UNKNOWN) return false;
    if (record === null || this.#kept.isExpired(record)) await this.#kept.forget(id);
    else if (record.scope !== scope) {
      // Of a registry that nobody serves any more.
      if (this.#kept.isExpired(record, record.deadline_at)) await this.#kept.forget(id);
    }
    // The ends that other processes left are limited together with our own.
    else if (record.end !== null) this.#kept.add(record, true);
    else return (await this.#adopted(record))?.process === records.process;
    return true;
  }
}

/** Until it may have changed, at most `ms` milliseconds or until `signal` aborts. */
async function change(own: Entry | undefined, ms: number, signal: AbortSignal): Promise<void> {
  const changed = new AbortController();
  const late = delay(own === undefined ? Math.min(ms, FOREIGN_POLL_MS) : ms, signal, changed.signal);
  await Promise.race([own?.over.promise ?? late, late]).catch(() => undefined);
  changed.abort();
}

function refusal(message: string): SidecarError {
  return new SidecarError('overloaded', message, { hint: 'Come back after Retry-After.' });
}

function viewOf({ id, is_list: isList, begun_at: begunAt, end }: JobRecord): Job {
  if (end === null) return { id, isList, end };
  return { id, isList, end: { outcomes: end.outcomes, durationS: Math.max(0, end.at - begunAt) } };
}
