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

/** Jobs on the disk. Nothing here fails: where the disk does not work, they are kept in memory only. */
export class JobRecords {
  readonly #cache: Cache;
  readonly #events: EventBus;
  readonly #limit = pLimit(AT_ONCE);
  /** So that what a job was never overwrites what it is. */
  readonly #turns = new Turns();

  constructor(cache: Cache, events: EventBus) {
    this.#cache = cache;
    this.#events = events;
  }

  get isOpen(): boolean {
    return this.#cache.opened !== null;
  }

  /** This process, as it stands in records. */
  get process(): string {
    return this.#cache.opened?.jobs.process ?? '';
  }

  /** Whether that process is another one, and alive. */
  async isWorkedOn(process: string): Promise<boolean> {
    return process !== this.process && (await this.#ask(false, store => store.isAlive(process)));
  }

  async save(record: JobRecord): Promise<void> {
    await this.#change(record.id, async ({ jobs }) => await jobs.write(record.id, serializeJob(record)));
  }

  async read(id: string): Promise<JobRecord | null> {
    const text = await this.#ask(null, async ({ jobs }) => await jobs.read(id));
    return text === null ? null : parseJob(text);
  }

  async ids(): Promise<readonly string[]> {
    return await this.#ask([], async ({ jobs }) => await jobs.ids());
  }

  async remove(id: string): Promise<void> {
    await this.#change(id, async ({ jobs }) => await jobs.remove(id));
  }

  async #change(id: string, work: (store: Store) => Promise<void>): Promise<void> {
    await this.#ask(undefined, async store => await this.#turns.take(id, async () => await work(store)));
  }

  /** What the disk says in time, else `fallback`. */
  async #ask<T>(fallback: T, work: (store: Store) => Promise<T>): Promise<T> {
    const store = this.#cache.opened;
    if (store === null || store.disk.isHanging) return fallback;
    try {
      const answer = await within(DISK_WAIT_MS, this.#limit(work, store));
      return answer === TOO_LATE ? fallback : answer;
    } catch (error) {
      this.#tell(toSidecarError(error));
      return fallback;
    }
  }

  #tell({ code, message, hint }: SidecarError): void {
    const error = new SidecarError(code, `Asynchronous reloads are not kept across a restart: ${message}`, {
      hint: hint ?? undefined,
    });
    this.#events.emit({ type: 'cache_unusable', error });
  }
}
