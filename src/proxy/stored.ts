import type { Clock } from '../domain/clock.ts';
import type { ManifestFile } from '../domain/manifest.ts';
import type { Scope } from '../domain/scope.ts';
import type { ArtifactRoot, VersionRoot } from '../domain/version.ts';
import { isSliceOver, nextSlice } from '../policy/slices.ts';
import type { FetchedRoot } from '../store/records/manifest-file.ts';
import type { Store } from '../store/store.ts';

/** A load asks for a thousand files within a second; and whoever collects does not touch what was found so lately. */
const REMEMBERED_MS = 10_000;
/** What is not there may be there in a moment. */
const MISSED_MS = 250;
const MOST_REMEMBERED = 200;
/** Of all that are remembered: two of the largest versions there may be, of 30 MB each. */
const MOST_FILES = 100_000;

/** One version in the store. */
export interface StoredVersion {
  readonly snapshot: string;
  /** By their paths. */
  readonly files: ReadonlyMap<string, ManifestFile>;
  readonly list: readonly ManifestFile[];
}

interface Remembered {
  readonly found: StoredVersion | null;
  readonly until: number;
}

/** The versions in the store. */
export class StoredRoots {
  readonly #clock: Clock;
  readonly #remembered = new Map<string, Remembered>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The same without a look at the disk: null also where that is not remembered. */
  remembered(store: Store, scope: Scope, root: VersionRoot): StoredVersion | null {
    return store.doubts.has(scope, root) ? null : (this.#known(store, keyOf(scope, root))?.found ?? null);
  }

  /** What a version held before its files were changed, or may have been; null where nothing is known of that. */
  async before(store: Store, scope: Scope, root: VersionRoot): Promise<StoredVersion | null> {
    return versionOf(await store.find(scope, root, 'before'));
  }

  /** A version that is in the store as a whole. */
  async find(store: Store, scope: Scope, root: VersionRoot): Promise<StoredVersion | null> {
    if (store.doubts.has(scope, root)) return null;
    const key = keyOf(scope, root);
    const now = this.#clock.monotonic();
    const known = this.#known(store, key);
    if (known !== null) return known.found;
    const found = await versionOf(await store.find(scope, root));
    if (store.doubts.has(scope, root)) return null;
    this.#remembered.delete(key);
    this.#remembered.set(key, { found, until: now + (found === null ? MISSED_MS : REMEMBERED_MS) });
    this.#forgetOldest(now);
    return found;
  }

  #known(store: Store, key: string): Remembered | null {
    const known = this.#remembered.get(key);
    if (known === undefined || this.#clock.monotonic() >= known.until) return null;
    return known.found !== null && store.refs.withdrawn.has(known.found.snapshot) ? null : known;
  }

  /** Any may be another one now. */
  forgetAll(): void {
    this.#remembered.clear();
  }

  /** But never the one that was looked for last. */
  #forgetOldest(now: number): void {
    const all = [...this.#remembered];
    let [count, files] = [all.length, 0];
    for (const [, { found }] of all) files += found?.list.length ?? 0;
    for (const [key, { found, until }] of all.slice(0, -1)) {
      if (until > now && count <= MOST_REMEMBERED && files <= MOST_FILES) continue;
      this.#remembered.delete(key);
      count -= 1;
      files -= found?.list.length ?? 0;
    }
  }

  /** Somebody may have removed or replaced what was fetched of the root, for whichever version. */
  forget(scope: Scope, root: ArtifactRoot): void {
    const ofRoot = rootKey(scope, root);
    for (const key of this.#remembered.keys()) if (key.startsWith(ofRoot)) this.#remembered.delete(key);
  }
}

function keyOf(scope: Scope, { root, version }: VersionRoot): string {
  return `${rootKey(scope, root)} ${version}`;
}

function rootKey(scope: Scope, root: ArtifactRoot): string {
  return JSON.stringify([scope.id, root]);
}

async function versionOf(found: FetchedRoot | null): Promise<StoredVersion | null> {
  if (found === null) return null;
  const list = found.manifest.files;
  const files = new Map<string, ManifestFile>();
  for (const file of list) {
    files.set(file.path, file);
    if (isSliceOver()) await nextSlice();
  }
  return { snapshot: found.snapshot, files, list };
}
