import type { Clock } from '../domain/clock.ts';
import { SidecarError, toSidecarError } from '../domain/errors.ts';
import type { EventBus } from '../domain/events.ts';
import type { Scope } from '../domain/scope.ts';
import { TOO_LATE, unlessRunning, within } from '../policy/abort.ts';
import { problemOf } from './access.ts';
import type { CacheLimits } from './collect/collector.ts';
import { Store } from './store.ts';

const RETRY_MS = 5_000;
/** How often the disk is asked whether it answers, so that it is noticed also where nobody calls. */
const WATCH_MS = 1_000;
/** For what was noted last, and for the lease; a disk that hangs is not waited for. */
const CLOSE_MS = 2_000;

export interface CacheOptions {
  readonly dir: string;
  readonly own: Scope;
  readonly clock: Clock;
  readonly events: EventBus;
  readonly limits?: CacheLimits;
}

/** The cache directory, which may not work yet: a volume that is mounted late, a disk that is full. It is tried again. */
export class Cache {
  readonly #options: CacheOptions;
  #store: Store | null = null;
  #problem: SidecarError | null = null;
  #retry: NodeJS.Timeout | null = null;
  #closed = false;
  #watch: NodeJS.Timeout | null = null;
  #hung = false;
  #prober: NodeJS.Timeout | null = null;
  /** Why nothing can be written though it could be at the start. */
  #trouble: SidecarError | null = null;

  constructor(options: CacheOptions) {
    this.#options = options;
  }

  /** Tries once, and in the background from then on; never throws. */
  async open(): Promise<void> {
    const { dir, own, clock, events, limits } = this.#options;
    // What is read and given already is not read again until it can be written, too.
    const problem = this.#store === null ? null : await problemOf(dir, clock);
    if (problem !== null) return this.#judge(problem);
    try {
      const store = await Store.open(dir, own, clock, events, limits);
      if (this.#closed) return await store.close();
      await forgetDamaged(this.#store, store);
      await this.#store?.close();
      this.#store = store;
      this.#watch ??= setInterval(() => void this.#look(this.#store ?? store), WATCH_MS).unref();
      this.#prober ??= setInterval(
        unlessRunning(() => this.#probe()),
        RETRY_MS,
      ).unref();
      this.#trouble = null;
      this.#judge(store.problem);
    } catch (error) {
      this.#judge(toSidecarError(error));
    }
  }

  /** Notes, while nobody calls too, whether the disk hangs. */
  async #look(store: Store): Promise<void> {
    const isHung = (await store.isThere()) === TOO_LATE;
    if (isHung && !this.#hung) this.#options.events.emit({ type: 'cache_unusable', error: store.hangs() });
    this.#hung = isHung;
  }

  /** A disk may become full or read-only at any time, and well again. */
  async #probe(): Promise<void> {
    const store = this.#store;
    if (store === null || store.problem !== null || store.disk.isHanging) return;
    const trouble = await store.probe();
    if (trouble !== null && this.#trouble?.code !== trouble.code)
      this.#options.events.emit({ type: 'cache_unusable', error: trouble });
    this.#trouble = trouble;
  }

  #judge(problem: SidecarError | null): void {
    const isNews = problem !== null && problem.message !== this.#problem?.message;
    this.#problem = problem;
    if (this.#retry !== null) clearTimeout(this.#retry);
    if (isNews) this.#options.events.emit({ type: 'cache_unusable', error: problem });
    if (problem !== null && !this.#closed) this.#retry = setTimeout(() => void this.open(), RETRY_MS).unref();
  }

  /** @throws SidecarError while the directory can not even be read */
  store(): Store {
    if (this.#store !== null) return this.#store;
    throw (
      this.#problem ??
      new SidecarError('internal', `The cache directory ${this.#options.dir} is not open yet.`)
    );
  }

  get opened(): Store | null {
    return this.#store;
  }

  /** Why nothing can be written, and what to do; null where all is well. */
  get problem(): string | null {
    const problem = this.#store?.disk.isHanging ? this.#store.hangs() : (this.#problem ?? this.#trouble);
    if (problem !== null) return [problem.message, problem.hint ?? ''].join(' ').trim();
    return this.#store === null ? 'The cache directory is not open yet.' : null;
  }

  /** Whether there is anything to give, though nothing may be written. */
  get canGive(): boolean {
    const store = this.#store;
    if (store === null || store.disk.isHanging) return false;
    return this.#problem === null || store.refs.published().models > 0;
  }

  /** Whether everything came to its end; what hangs on the disk goes on. */
  async close(): Promise<boolean> {
    this.#closed = true;
    if (this.#retry !== null) clearTimeout(this.#retry);
    if (this.#watch !== null) clearInterval(this.#watch);
    if (this.#prober !== null) clearInterval(this.#prober);
    return this.#store === null || (await within(CLOSE_MS, this.#store.close())) !== TOO_LATE;
  }
}

/** What was found damaged while it could only be read is not given by the next one either. */
async function forgetDamaged(before: Store | null, store: Store): Promise<void> {
  const snapshots = before?.refs.withdrawn.all ?? [];
  if (snapshots.length === 0) return;
  await store.quarantine({ damages: [], unreadable: [], snapshots, blobs: [], roots: [], modelUris: [] });
}
