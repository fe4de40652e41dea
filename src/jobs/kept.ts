import type { Clock } from '../domain/clock.ts';
import type { JobRecord } from './record.ts';
import type { JobRecords } from './records.ts';

const KEPT_S = 24 * 3_600;
/** Answers in memory and on the disk, of up to 4 KB each; a job has one for each of its models. */
const MOST_ANSWERS = 2_000;

export interface Entry {
  record: JobRecord;
  /** Aborts when nobody wants it any more. */
  readonly unwanted: AbortController;
  /** Resolves when there is nothing to wait for any more: it has ended, was removed, or the process ends. */
  readonly over: PromiseWithResolvers<void>;
}

/** The jobs of this process, and what others had ended: for a day, and a limited number of answers. */
export class Kept {
  readonly #entries = new Map<string, Entry>();
  readonly #records: JobRecords;
  readonly #clock: Clock;

  constructor(records: JobRecords, clock: Clock) {
    this.#records = records;
    this.#clock = clock;
  }

  get all(): readonly Entry[] {
    return [...this.#entries.values()];
  }

  get(id: string): Entry | undefined {
    return this.#entries.get(id);
  }

  /** Only in memory. */
  add(record: JobRecord): Entry {
    const entry = { record, unwanted: new AbortController(), over: Promise.withResolvers<void>() };
    this.#entries.set(record.id, entry);
    return entry;
  }

  async forget(id: string): Promise<void> {
    this.#entries.delete(id);
    await this.#records.remove(id);
  }

  isExpired({ end }: JobRecord): boolean {
    return end !== null && this.#clock.now() / 1_000 - end.at > KEPT_S;
  }

  async expire(): Promise<void> {
    for (const { record } of this.all) if (this.isExpired(record)) await this.forget(record.id);
  }

  /** Forgets the oldest ends until there is room for so many answers more; false where what runs leaves none. */
  async makeRoom(answers: number): Promise<boolean> {
    const records = this.all.map(({ record }) => record);
    const oldest = records
      .flatMap(({ id, end }) => (end === null ? [] : [{ id, at: end.at, answers: end.outcomes.length }]))
      .toSorted((a, b) => a.at - b.at);
    let surplus = records.reduce((sum, record) => sum + record.model_uris.length, answers) - MOST_ANSWERS;
    for (const ended of oldest) {
      if (surplus <= 0) break;
      surplus -= ended.answers;
      await this.forget(ended.id);
    }
    return surplus <= 0;
  }
}
