import type { Clock } from '../domain/clock.ts';
import type { ErrorCode } from '../domain/errors.ts';
import type { Scope } from '../domain/scope.ts';
import type { VersionRoot } from '../domain/version.ts';
import { TOO_LATE, within } from '../policy/abort.ts';
import type { Cache } from '../store/cache.ts';
import type { Asker } from './asker.ts';
import type { Lookback } from './lookback.ts';
import type { StoredRoots } from './stored.ts';
import type { OfRun, Versions } from './versions.ts';

/** For so long the rest of a load gets the same: a client lists first, and asks for the files then. */
const GIVEN_MS = 10_000;
const MOST_GIVEN = 1_000;
/** A disk that begins to hang while it is looked at keeps no client. */
const LOOK_MS = 1_000;

/** A file or directory of a version as it was before a change, or what may have been one. */
export type Old = OfRun & { readonly stale: ErrorCode };

interface PriorOptions {
  readonly cache: Cache;
  readonly stored: StoredRoots;
  readonly lookback: Lookback;
  readonly versions: Pick<Versions, 'placesOf'>;
}

interface Given {
  readonly old: Omit<Old, 'path'>;
  readonly until: number;
}

/** What a version held before its files were changed, or may have been, while nobody can be asked what they are now. */
export class PriorVersions {
  readonly #options: PriorOptions;
  readonly #clock: Clock;
  readonly #given = new Map<string, Given>();

  constructor(options: PriorOptions, clock: Clock) {
    this.#options = options;
    this.#clock = clock;
  }

  /** Whether the files at this path are of a version that is in doubt. */
  isInDoubt(segments: readonly string[], asker: Asker): boolean {
    const { cache, versions } = this.#options;
    const store = cache.opened;
    if (store === null || store.doubts.isEmpty) return false;
    return versions.placesOf(store, segments, asker).some(({ root }) => store.doubts.has(asker.scope, root));
  }

  /** What was given instead just now. */
  lately(segments: readonly string[], asker: Asker): Old | null {
    const { cache, versions } = this.#options;
    const store = this.#given.size === 0 ? null : cache.opened;
    for (const { root, path } of store === null ? [] : versions.placesOf(store, segments, asker)) {
      const given = this.#given.get(keyOf(asker.scope, root));
      if (given !== undefined && this.#clock.monotonic() < given.until) return { ...given.old, path };
    }
    return null;
  }

  /** @param stale why it is given */
  async find(segments: readonly string[], asker: Asker, stale: ErrorCode): Promise<Old | null> {
    // A disk that fails has nothing to give, and why is said of what was asked for.
    const looking = this.#find(segments, asker, stale).catch(() => null);
    const found = await within(LOOK_MS, looking);
    return found === TOO_LATE ? null : found;
  }

  async #find(segments: readonly string[], asker: Asker, stale: ErrorCode): Promise<Old | null> {
    const { cache, stored, lookback, versions } = this.#options;
    const { scope } = asker;
    const store = cache.opened;
    if (store === null || store.disk.isHanging) return null;
    for (const { root, path } of versions.placesOf(store, segments, asker)) {
      const version = await stored.before(store, scope, root);
      const published = version === null ? null : lookback.snapshot(store.refs, scope, version.snapshot);
      if (version === null || published === null) continue;
      const ageS = Math.floor(published.ageS);
      const old = { kind: 'stored', store, version, root, ageS, stale } as const;
      this.#remember(keyOf(scope, root), old);
      return { ...old, path };
    }
    return null;
  }

  /** A newer one is listed: what follows is of that. */
  forget(root: VersionRoot, { scope }: Asker): void {
    this.#given.delete(keyOf(scope, root));
  }

  #remember(key: string, old: Given['old']): void {
    this.#given.delete(key);
    this.#given.set(key, { old, until: this.#clock.monotonic() + GIVEN_MS });
    const [oldest] = this.#given.keys();
    if (oldest !== undefined && this.#given.size > MOST_GIVEN) this.#given.delete(oldest);
  }
}

function keyOf({ id }: Scope, root: VersionRoot): string {
  return JSON.stringify([id, root]);
}
