import type { Scope } from '../domain/scope.ts';
import type { VersionRoot } from '../domain/version.ts';
import { TOO_LATE, within } from '../policy/abort.ts';
import type { Arriving } from '../reload/arriving.ts';
import type { Cache } from '../store/cache.ts';
import type { Change } from '../store/records/doubts.ts';
import { rootOf } from '../store/records/ref-record.ts';
import type { Store } from '../store/store.ts';
import type { Allowed } from './allowed.ts';
import type { Asker } from './asker.ts';
import type { Downloads } from './downloads.ts';
import type { Interests } from './interests.ts';
import type { Lookback } from './lookback.ts';
import { placesOf } from './roots.ts';
import type { StoredRoots, StoredVersion } from './stored.ts';

/** A disk that begins to hang while it is looked at keeps no client. */
const LOOK_MS = 1_000;

/** A file or directory of a version. */
interface Place {
  readonly root: VersionRoot;
  /** Relative; empty for the root itself. */
  readonly path: string;
}

/** One of a version in the store. */
export type Stored = Place & {
  readonly kind: 'stored';
  readonly store: Store;
  readonly version: StoredVersion;
};

/** What stands in for what MLflow would say. */
export type OfRun = Stored & { readonly ageS: number };

/** One of a version on its way there. */
export type Coming = Place & {
  readonly kind: 'arriving';
  readonly store: Store;
  readonly arriving: Arriving;
};

export interface VersionsOptions {
  readonly cache: Cache;
  readonly stored: StoredRoots;
  readonly downloads: Downloads;
  readonly interests: Interests;
  readonly allowed: Allowed;
  readonly lookback: Lookback;
}

/** Which version a path of the artifact server belongs to. */
export class Versions {
  readonly #options: VersionsOptions;

  constructor(options: VersionsOptions) {
    this.#options = options;
  }

  /**
   * Null where it is in none that is known, or none can come into the cache.
   * @param what a listing begins a load, and with it a download; a file belongs to one
   * @throws SidecarError `not_allowed`; for a file why the rest of its version could not be had just now
   */
  async find(
    segments: readonly string[],
    asker: Asker,
    what: 'listing' | 'file',
  ): Promise<Stored | Coming | null> {
    const { cache, interests, downloads } = this.#options;
    const store = cache.opened;
    // What is remembered of a version is no file that can be read.
    if (store === null || (await store.isThere()) === TOO_LATE) return null;
    const places = this.placesOf(store, segments, asker);
    const found = await within(LOOK_MS, this.#stored(store, places, asker));
    if (found === TOO_LATE) return null;
    if (found !== null) return found;
    const place = places.find(
      ({ root }) => interests.has(asker.scope, root) || store.doubts.has(asker.scope, root),
    );
    if (place === undefined || store.problem !== null) return null;
    const failure = what === 'file' ? downloads.failure(place.root, asker) : null;
    if (failure !== null) throw failure;
    return { kind: 'arriving', store, arriving: downloads.join(store, place.root, asker), ...place };
  }

  /** By an address of MLflow's own, a file is of the logged model, or of the run, that is known to be there. */
  placesOf(store: Store, segments: readonly string[], { scope }: Asker): readonly Place[] {
    const { interests } = this.#options;
    const published = new Map<string, string>();
    for (const ref of store.refs.all(scope)) {
      const root = ref.uri.kind === 'logged_model' && ref.published !== null ? rootOf(ref.published) : null;
      if (root !== null) published.set(root.root[0], root.version);
    }
    return placesOf(segments).flatMap(({ root, version: named, path }) => {
      const version = named ?? interests.shownAt(scope, root) ?? published.get(root[0]) ?? null;
      return version === null ? [] : [{ root: { root, version }, path }];
    });
  }

  async #stored(store: Store, places: readonly Place[], { scope }: Asker): Promise<Stored | null> {
    const { stored, allowed } = this.#options;
    // Of a load's files only the first is looked up on the disk.
    for (const look of ['remembered', 'find'] as const) {
      for (const place of places) {
        const version = await stored[look](store, scope, place.root);
        if (version === null) continue;
        allowed.assertRoot(place.root, scope, store.refs);
        return { kind: 'stored', store, version, ...place };
      }
    }
    return null;
  }

  /** What is published of a run: MLflow lays its artifacts and those of the model that it logged over one another. */
  async ofRun(segments: readonly string[], { scope }: Asker): Promise<OfRun | null> {
    const { cache, lookback, stored } = this.#options;
    const store = cache.opened;
    if (store === null || store.disk.isHanging) return null;
    for (const {
      root: [own],
      path,
    } of placesOf(segments)) {
      const given = lookback.run(store.refs, scope, own);
      const root = given === null ? null : rootOf(given.published);
      if (given === null || root === null) continue;
      const version = await stored.find(store, scope, root);
      if (version === null) continue;
      return { kind: 'stored', store, version, root, path, ageS: Math.floor(given.ageS) };
    }
    return null;
  }

  /** Its files are not there any more, whatever is remembered of it. */
  lost({ root }: Stored, { scope }: Asker): void {
    this.#options.stored.forget(scope, root.root);
  }

  /**
   * Files were changed, or may have been: no version that holds them is what it was.
   * @param reader who may have a version of which nothing is published
   */
  async changed(change: Change, reader: Scope): Promise<void> {
    const { cache, stored } = this.#options;
    const roots = placesOf(change.path.split('/')).map(({ root }) => ({ scope: reader, root }));
    try {
      await cache.opened?.doubts.change(change, roots);
    } finally {
      stored.forgetAll();
    }
  }
}
