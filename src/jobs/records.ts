import pLimit from 'p-limit';
import { SidecarError, toSidecarError } from '../domain/errors.ts';
import type { EventBus } from '../domain/events.ts';
import { TOO_LATE, within } from '../policy/abort.ts';
import { Turns } from '../policy/turns.ts';
import type { Cache } from '../store/cache.ts';
import type { Store } from '../store/store.ts';
import { type JobRecord, parseJob, serializeJob } from './record.ts';

/** A disk syncs in 1 to 50 ms; one that hangs must not keep a caller. */
const DISK_WAIT_MS = 1_000;
/** Of libuv's threads, which a disk that hangs holds. */
const AT_ONCE = 4;

/** The disk fails, hangs, or is not open yet: it does not say. */
export const UNKNOWN = Symbol('unknown');
type Unknown = typeof UNKNOWN;

/** Jobs on the disk. Nothing here fails, and nothing takes long. */
export class JobRecords {
  readonly #cache: Cache;
  readonly #events: EventBus;
  readonly #limit = pLimit(AT_ONCE);
  /** So that what a job was never overwrites what it is. */
  readonly #turns = new Turns();
  readonly #changes = new Set<Promise<unknown>>();
  #told: string | null = null;

  constructor(cache: Cache, events: EventBus) {
    this.#cache = cache;
    this.#events = events;
  }

  /** This process, as it stands in records; empty while nothing can be written. */
  get process(): string {
    return this.#cache.opened?.jobs.process ?? '';
  }

  async isAlive(process: string): Promise<boolean | Unknown> {
    return await this.#ask(store => store.isAlive(process));
  }

  async save(record: JobRecord): Promise<'saved' | Unknown> {
    return await this.#change(store =>
      this.#turns.take(record.id, async () => {
        await this.#write(store, record);
        return 'saved' as const;
      }),
    );
  }

  /** The same, unless somebody removed it. */
  async replace(record: JobRecord): Promise<'saved' | 'gone' | Unknown> {
    return await this.#change(store =>
      this.#turns.take(record.id, async () => {
        if ((await store.jobs.read(record.id)) === null) return 'gone' as const;
        await this.#write(store, record);
        return 'saved' as const;
      }),
    );
  }

  /** Null where there is none, or where it is damaged. */
  async read(id: string): Promise<JobRecord | null | Unknown> {
    const text = await this.#ask(({ jobs }) => jobs.read(id));
    return typeof text === 'string' ? parseJob(text) : text;
  }

  async ids(): Promise<readonly string[] | Unknown> {
    return await this.#ask(({ jobs }) => jobs.ids());
  }

  async remove(id: string): Promise<'removed' | Unknown> {
    return await this.#change(store =>
      this.#turns.take(id, async () => {
        await store.jobs.remove(id);
        return 'removed' as const;
      }),
    );
  }

  /** Resolves when nothing is being written, or when the disk takes too long. */
  async idle(): Promise<void> {
    await within(DISK_WAIT_MS, Promise.all(this.#changes));
  }

  async #write({ jobs }: Store, record: JobRecord): Promise<void> {
    await jobs.write(record.id, serializeJob({ ...record, process: this.process }));
  }

  async #change<T>(work: (store: Store) => Promise<T>): Promise<T | Unknown> {
    const change = this.#ask(work);
    this.#changes.add(change);
    try {
      return await change;
    } finally {
      this.#changes.delete(change);
    }
  }

  async #ask<T>(work: (store: Store) => Promise<T>): Promise<T | Unknown> {
    const store = this.#cache.opened;
    if (store === null || store.disk.isHanging) return UNKNOWN;
    try {
      const answer = await within(DISK_WAIT_MS, this.#limit(work, store));
      if (answer === TOO_LATE) return UNKNOWN;
      this.#told = null;
      return answer;
    } catch (error) {
      this.#tell(toSidecarError(error));
      return UNKNOWN;
    }
  }

  /** Once, until it works again. */
  #tell({ code, message, hint }: SidecarError): void {
    if (this.#told === message) return;
    this.#told = message;
    const error = new SidecarError(code, `Asynchronous reloads are not kept across a restart: ${message}`, {
      hint: hint ?? undefined,
    });
    this.#events.emit({ type: 'cache_unusable', error });
  }
}
