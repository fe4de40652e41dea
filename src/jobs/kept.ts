import { type Clock, steady } from '../domain/clock.ts';
import type { JobRecord } from './record.ts';
import { type JobRecords, UNKNOWN } from './records.ts';

const KEPT_S = 24 * 3_600;
/** Answers in memory and on the disk, of up to 4 KB each; a job has one for each of its models. */
export const MOST_ANSWERS = 2_000;

export interface Entry {
  record: JobRecord;
  /** Whether the record is on the disk as it is. */
  isSaved: boolean;
  /** Aborts when nobody wants it any more. */
  readonly unwanted: AbortController;
  /** Resolves when there is nothing to wait for any more: it has ended, was removed, or the process ends. */
  readonly over: PromiseWithResolvers<void>;
}

/** The jobs of this process, and what others had ended: for a day, and a limited number of answers. */
export class Kept {
  readonly #entries = new Map<string, Entry>();
  /** Forgotten, while their records may still be on the disk. */
  readonly #leaving = new Set<string>();
  readonly #records: JobRecords;
  readonly #clock: Clock;

  constructor(records: JobRecords, clock: Clock) {
    this.#records = records;
    this.#clock = clock;
  }

  get all(): readonly Entry[] {
    return [...this.#entries.values()];
  }

  get running(): readonly Entry[] {
    return this.all.filter(({ record }) => record.end === null);
  }

  get(id: string): Entry | undefined {
    const entry = this.#entries.get(id);
    return entry === undefined || this.isExpired(entry.record) ? undefined : entry;
  }

  add(record: JobRecord, isSaved: boolean): Entry {
    const entry = { record, isSaved, unwanted: new AbortController(), over: Promise.withResolvers<void>() };
    this.#entries.set(record.id, entry);
    return entry;
  }

  /** Whether it was forgotten, whatever the disk says. */
  isGone(id: string): boolean {
    return this.#leaving.has(id);
  }

  /** @param endedAt in steady seconds: for what has no end, and nobody will give it one; null where somebody may */
  isExpired({ end }: JobRecord, endedAt: number | null = null): boolean {
    const at = end?.at ?? endedAt;
    return at !== null && steady(this.#clock) / 1_000 - at > KEPT_S;
  }

  /** Gone at once; resolves when its record is, or when the disk takes too long. Whoever waits for it is told. */
  async forget(id: string): Promise<void> {
    this.#leaving.add(id);
    this.drop(id);
    if ((await this.#records.remove(id)) !== UNKNOWN) this.#leaving.delete(id);
  }

  /** The same, but its record stays. */
  drop(id: string): void {
    const entry = this.#entries.get(id);
    this.#entries.delete(id);
    entry?.unwanted.abort(new Error('The job was removed.'));
    entry?.over.resolve();
  }

  /** Forgets what is too old, and tries again what could not be removed. */
  async tidy(): Promise<void> {
    const old = this.all.filter(({ record }) => this.isExpired(record)).map(({ record }) => record.id);
    for (const id of [...old, ...this.#leaving]) await this.forget(id);
  }

  /** Forgets the oldest ends until there is room for so many answers more; none where what runs leaves no room. */
  makeRoom(answers: number): boolean {
    const count = (entries: readonly Entry[]) =>
      entries.reduce((sum, { record }) => sum + record.model_uris.length, answers);
    if (count(this.running) > MOST_ANSWERS) return false;
    const oldest = this.all
      .flatMap(({ record: { id, end } }) =>
        end === null ? [] : [{ id, at: end.at, answers: end.outcomes.length }],
      )
      .toSorted((a, b) => a.at - b.at);
    let surplus = count(this.all) - MOST_ANSWERS;
    for (const ended of oldest) {
      if (surplus <= 0) break;
      surplus -= ended.answers;
      void this.forget(ended.id);
    }
    return true;
  }
}
