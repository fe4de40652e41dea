import { readdir, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { holdsPath } from '../../domain/artifact-path.ts';
import type { Scope } from '../../domain/scope.ts';
import type { ArtifactRoot, VersionRoot } from '../../domain/version.ts';
import { ifAbsent, sync } from '../disk/durable.ts';
import { DOUBTED, type Layout } from '../disk/layout.ts';
import type { FetchedRoot, Manifests } from './manifests.ts';
import { rootOf } from './ref-record.ts';
import type { Refs } from './refs.ts';

/** A fetch of an artifact root that is under way. */
export interface Fetching {
  readonly scope: Scope;
  readonly root: ArtifactRoot;
  /** Whether the files were changed, or may have been, since it was begun. */
  isOutdated: boolean;
}

/** A change, or perhaps none, below MLflow's artifact server. */
export interface Change {
  /** Decoded. */
  readonly path: string;
  /** Whose cache it concerns; null for everybody's. */
  readonly scope: Scope | null;
}

/** What may hold the files of a change. */
export interface Known {
  readonly scope: Scope;
  readonly root: ArtifactRoot;
}

/** Of as many confirmations in a row, each comes between a look at what is published and its change. */
const MOST_TURNS = 10;

/**
 * Roots whose files somebody changed, or may have changed, since they were fetched. They are fetched anew when they are wanted next;
 * until that succeeds their record says what was there before. On the disk it has another ending then.
 */
export class Doubts {
  readonly #layout: Layout;
  readonly #manifests: Manifests;
  readonly #refs: Pick<Refs, 'entries' | 'publish'>;
  readonly #isReadOnly: boolean;
  /** By the names of their records. */
  readonly #names = new Set<string>();
  readonly #fetching = new Set<Fetching>();

  constructor(
    layout: Layout,
    manifests: Manifests,
    refs: Pick<Refs, 'entries' | 'publish'>,
    isReadOnly: boolean,
  ) {
    this.#layout = layout;
    this.#manifests = manifests;
    this.#refs = refs;
    this.#isReadOnly = isReadOnly;
  }

  /** Takes over what a process before this one left. */
  async recover(): Promise<void> {
    const names = new Set(await ifAbsent([], readdir(this.#layout.manifests)));
    for (const name of names) {
      const record = name.slice(0, -DOUBTED.length);
      // Both are there where a crash came after the new one was written.
      if (name.endsWith(DOUBTED) && !names.has(record)) this.#names.add(record);
    }
  }

  get isEmpty(): boolean {
    return this.#names.size === 0;
  }

  has(scope: Scope, wanted: VersionRoot): boolean {
    return !this.isEmpty && this.#names.has(this.#layout.manifestName(scope, wanted));
  }

  /**
   * What a root holds, as far as it is known.
   * @param of `now`: null while it is in doubt; `before`: what it held before that
   */
  async find(scope: Scope, wanted: VersionRoot, of: 'now' | 'before'): Promise<FetchedRoot | null> {
    const isInDoubt = this.has(scope, wanted);
    const before = of === 'now' ? null : await this.#manifests.findDoubted(scope, wanted);
    if (before !== null) return before;
    // Where nothing can be written the record of before is still where it was.
    return isInDoubt === (of === 'before') ? await this.#record(scope, wanted) : null;
  }

  #record(scope: Scope, wanted: VersionRoot): Promise<FetchedRoot | null> {
    const ofScope = () => this.#refs.entries().filter(one => one.scope.id === scope.id);
    return this.#manifests.find(scope, wanted, () => ofScope().map(({ ref }) => ref));
  }

  /** Before the first question of a fetch, so that a change meanwhile is noticed; `end` at its end. */
  begin(scope: Scope, root: ArtifactRoot): Fetching {
    const fetching = { scope, root, isOutdated: false };
    this.#fetching.add(fetching);
    return fetching;
  }

  end(fetching: Fetching): void {
    this.#fetching.delete(fetching);
  }

  /**
   * Files were changed where they came from, or may have been. What is published stays.
   * @param known what may hold them, besides what is published
   */
  async change({ path, scope }: Change, known: readonly Known[]): Promise<void> {
    const isMeant = (one: Known) =>
      (scope === null || one.scope.id === scope.id) && holdsPath(one.root, path);
    for (const fetching of this.#fetching) if (isMeant(fetching)) fetching.isOutdated = true;
    const all = [...this.#published(), ...known].filter(isMeant);
    const names = new Set<string>();
    for (const one of all) for (const name of await this.#namesOf(one)) names.add(name);
    let isMoved = false;
    for (const name of names) isMoved = (await this.#doubt(name)) || isMoved;
    if (isMoved) await sync(this.#layout.manifests);
  }

  /** Writes down what a fetch found. */
  async record(
    scope: Scope,
    wanted: VersionRoot,
    fetched: FetchedRoot,
    fetching: Fetching | null,
  ): Promise<void> {
    const name = this.#layout.manifestName(scope, wanted);
    if (fetching?.isOutdated === true) {
      // One that was begun after the change may have ended before this one.
      if ((await this.#record(scope, wanted)) !== null) return;
      this.#names.add(name);
      return await this.#manifests.saveDoubted(scope, wanted, fetched);
    }
    await this.#manifests.save(scope, wanted, fetched);
    if (this.#names.delete(name)) await this.#publish(scope, wanted, fetched);
  }

  /** The files of a version are others than they were: whatever is published of it is of these from now on. */
  async #publish(scope: Scope, wanted: VersionRoot, { snapshot, manifest }: FetchedRoot): Promise<void> {
    const of = { snapshot, digest: manifest.digest, files: manifest.files.length, bytes: manifest.bytes };
    const outdated = () =>
      this.#refs.entries().filter(({ scope: theirs, ref: { published } }) => {
        const isOfRoot =
          theirs.id === scope.id && published !== null && isDeepStrictEqual(rootOf(published), wanted);
        return isOfRoot && published.snapshot !== snapshot;
      });
    // A newer answer that confirms the version meanwhile is before this one: then it is shown once more.
    for (let turn = 0; turn < MOST_TURNS; turn++) {
      const entries = outdated();
      if (entries.length === 0) return;
      for (const { scope: theirs, ref, order } of entries) {
        const { uri, published, confirmedAt } = ref;
        if (published === null || confirmedAt === null) continue;
        await this.#refs.publish(theirs, uri, { ...published, ...of }, order, confirmedAt);
      }
    }
  }

  /** Of the records of a root, and of its versions that are published. */
  async #namesOf({ scope, root }: Known): Promise<readonly string[]> {
    const published = this.#refs.entries().flatMap(({ scope: theirs, ref }) => {
      const of = theirs.id === scope.id && ref.published !== null ? rootOf(ref.published) : null;
      return of !== null && isDeepStrictEqual(of.root, root) ? [this.#layout.manifestName(scope, of)] : [];
    });
    return [...published, ...(await this.#manifests.namesOf(scope, root))];
  }

  #published(): readonly Known[] {
    return this.#refs.entries().flatMap(({ scope, ref }) => {
      const root = ref.published?.root;
      return root === undefined ? [] : [{ scope, root }];
    });
  }

  /** @returns whether there was a record that was not in doubt yet */
  async #doubt(name: string): Promise<boolean> {
    const record = join(this.#layout.manifests, name);
    // Before it is moved, so that nobody gives it in between.
    const isNew = !this.#names.has(name);
    this.#names.add(name);
    if (this.#isReadOnly) return false;
    const isMoved = await ifAbsent(
      false,
      rename(record, `${record}${DOUBTED}`).then(() => true),
    );
    // Where there is no record nothing is to be doubted.
    if (!isMoved && isNew) this.#names.delete(name);
    return isMoved;
  }
}
