import type { Clock } from '../domain/clock.ts';
import { SidecarError, toSidecarError } from '../domain/errors.ts';
import type { EventBus } from '../domain/events.ts';
import type { Scope } from '../domain/scope.ts';
import { Store } from './store.ts';

const RETRY_MS = 5_000;

export interface CacheOptions {
  readonly dir: string;
  readonly own: Scope;
  readonly clock: Clock;
  readonly events: EventBus;
}

/** The cache directory, which may not work yet: a volume that is mounted late, a disk that is full. It is tried again. */
export class Cache {
  readonly #options: CacheOptions;
  #store: Store | null = null;
  #problem: SidecarError | null = null;
  #retry: NodeJS.Timeout | null = null;
  #closed = false;

  constructor(options: CacheOptions) {
    this.#options = options;
  }

  /** Tries once, and in the background from then on; never throws. */
  async open(): Promise<void> {
    const { dir, own, clock, events } = this.#options;
    try {
      const store = await Store.open(dir, own, clock, events);
      if (this.#closed) return await store.close();
      this.#store = store;
      this.#problem = null;
    } catch (error) {
      this.#problem = unusable(dir, error);
      events.emit({ type: 'cache_unusable', error: this.#problem });
      if (!this.#closed) this.#retry = setTimeout(() => void this.open(), RETRY_MS).unref();
    }
  }

  /** @throws SidecarError while the directory does not work */
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

  get problem(): string | null {
    return this.#store === null ? (this.#problem?.message ?? 'The cache directory is not open yet.') : null;
  }

  async close(): Promise<void> {
    this.#closed = true;
    if (this.#retry !== null) clearTimeout(this.#retry);
    await this.#store?.close();
  }
}

function unusable(dir: string, error: unknown): SidecarError {
  const { code, message } = toSidecarError(error);
  return new SidecarError(code, `The cache directory ${dir} does not work: ${message}`, {
    hint: 'Make it writable for this user, or set SIDECAR_CACHE_DIR to a directory that is.',
    cause: error,
  });
}
