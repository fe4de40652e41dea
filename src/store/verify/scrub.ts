import { join, relative } from 'node:path';
import { type ManifestFile, manifestInSteps } from '../../domain/manifest.ts';
import { mapBounded } from '../../policy/bounded.ts';
import { inSlices } from '../../policy/slices.ts';
import type { Layout } from '../disk/layout.ts';
import { entriesOfTree } from '../disk/tree-walk.ts';
import { readManifest } from '../records/manifest-file.ts';
import { damaged, type Fault, faultIn, type Inspector, identityOf } from './inspect.ts';
import { blobsIn, publishedIn, rootsIn, type StoredRef, type StoredRoot } from './on-disk.ts';

const LOOKS_AT_ONCE = 4;

/** One file that is not as it should be. */
export interface Damage {
  /** Below the layout's root. */
  readonly path: string;
  /** What it should hold; null where that is not known, or where it should not be at all. */
  readonly expected: { readonly sha256: string; readonly size: number | null } | null;
  /** What is wrong, in words that follow its name. */
  readonly found: string;
  /** Whether the disk only fails to give it. */
  readonly isUnreadable: boolean;
}

/** What has to go for some damage: whatever shares a damaged file goes with it. */
export interface Harm {
  readonly damages: readonly Damage[];
  /** Snapshots that stay, since nothing is known but that the disk does not give all of them: they are to be fetched anew. */
  readonly unreadable: readonly string[];
  readonly snapshots: readonly string[];
  /** By digest. */
  readonly blobs: readonly string[];
  /** Records of `state/manifests` that name the snapshots. */
  readonly roots: readonly StoredRoot[];
  readonly modelUris: readonly string[];
}

export interface Scrubbed {
  readonly files: number;
  readonly bytes: number;
  readonly damaged: number;
}

export interface ScrubOptions {
  readonly layout: Layout;
  readonly inspector: Inspector;
  /** Sees to it that nobody gets what is damaged, before anything else is looked at. */
  readonly onHarm: (harm: Harm) => Promise<void>;
}

interface Shared {
  /** Digests by the identity of the damaged file. */
  readonly inodes: ReadonlyMap<string, string>;
  readonly blobs: readonly string[];
}

/** One pass over everything that readers get, and over the blobs that would be shared with new versions. */
export class Scrub {
  readonly #layout: Layout;
  readonly #inspector: Inspector;
  readonly #onHarm: ScrubOptions['onHarm'];
  /** Snapshots and blobs, which stay where the cache can only be read. */
  readonly #told = new Set<string>();
  #damaged = 0;

  constructor({ layout, inspector, onHarm }: ScrubOptions) {
    this.#layout = layout;
    this.#inspector = inspector;
    this.#onHarm = onHarm;
  }

  /** @throws whatever aborted the inspector's signal, and errors of the disk that say nothing of a file */
  async run(): Promise<Scrubbed> {
    const seen = new Set<string>();
    for await (const root of rootsIn(this.#layout)) {
      await this.#checkRoot(root);
      seen.add(root.snapshot);
    }
    for (const ref of await publishedIn(this.#layout)) {
      const { snapshot } = ref.published;
      if (!seen.has(snapshot) && !this.#told.has(snapshot)) await this.#checkByDigest(ref);
      seen.add(snapshot);
    }
    for await (const { path, sha256 } of blobsIn(this.#layout)) await this.#checkBlob(path, sha256);
    return { ...this.#inspector.read, damaged: this.#damaged };
  }

  async #checkRoot(root: StoredRoot): Promise<void> {
    if (this.#told.has(root.snapshot) || (await this.#damagesOf(root)).length === 0) return;
    // It may have been collected or replaced in between; and a disk may fail to read once.
    const now = await readManifest(root.path);
    const damages = now?.snapshot === root.snapshot ? await this.#damagesOf(root) : [];
    if (damages.length === 0) return;
    if (damages.every(damage => damage.isUnreadable)) await this.#tellUnreadable(damages, [root.snapshot]);
    else await this.#tell(damages, root);
  }

  /** Nothing for a snapshot that is not there: nobody gets it. */
  async #damagesOf({ snapshot, manifest }: StoredRoot): Promise<readonly Damage[]> {
    const base = this.#layout.snapshot(snapshot);
    const names = await this.#namesIn(base);
    if (!Array.isArray(names)) return names === null ? [] : [names];
    const damages: Damage[] = [];
    for (const file of manifest.files) {
      const path = join(base, file.path);
      const found = await this.#inspector.faultOf(path, file);
      const { sha256, size } = file;
      if (found !== null) damages.push(this.#damage(path, found, { sha256, size }));
    }
    const wanted = new Set(manifest.files.map(file => file.path));
    for (const name of names) {
      if (!wanted.has(name))
        damages.push(this.#damage(join(base, name), damaged('does not belong there'), null));
    }
    return (await identityOf(base)) === null ? [] : damages;
  }

  /** Paths of all but directories; null where there is no such directory. */
  async #namesIn(base: string): Promise<string[] | Damage | null> {
    try {
      const names: string[] = [];
      for await (const { path } of entriesOfTree(base)) names.push(path);
      return names;
    } catch (error) {
      const found = faultIn(error);
      return (await identityOf(base)) === null ? null : this.#damage(base, found, null);
    }
  }

  /** Of a version whose record was replaced, but which a ref still gives. */
  async #checkByDigest(ref: StoredRef): Promise<void> {
    const { snapshot, digest } = ref.published;
    const base = this.#layout.snapshot(snapshot);
    const look = async (): Promise<readonly Damage[]> => {
      const found = await this.#digestFault(base, digest);
      return found === null ? [] : [this.#damage(base, found, null)];
    };
    if ((await look()).length === 0 || (await identityOf(base)) === null) return;
    const damages = await look();
    if (damages.some(damage => damage.isUnreadable)) await this.#tellUnreadable(damages, [snapshot]);
    else if (damages.length > 0) await this.#report(damages, [], [snapshot], []);
  }

  async #digestFault(base: string, digest: string): Promise<Fault | null> {
    const names = await this.#namesIn(base);
    if (!Array.isArray(names))
      return names === null ? null : { words: names.found, isUnreadable: names.isUnreadable };
    try {
      const files: ManifestFile[] = [];
      for (const path of names) files.push({ path, ...(await this.#inspector.contentOf(join(base, path))) });
      const found = (await inSlices(manifestInSteps(files))).digest;
      return found === digest ? null : damaged(`has the digest ${found} instead of ${digest}`);
    } catch (error) {
      return faultIn(error);
    }
  }

  async #checkBlob(path: string, sha256: string): Promise<void> {
    if (this.#told.has(sha256) || (await this.#blobFault(path, sha256)) === null) return;
    const found = await this.#blobFault(path, sha256);
    const identity = await identityOf(path);
    if (found === null || identity === null) return;
    const damages = [this.#damage(path, found, { sha256, size: null })];
    if (found.isUnreadable) return await this.#tellUnreadable(damages, []);
    const holders = await this.#holdersOf(new Map([[identity, sha256]]));
    await this.#report(damages, holders, [], [sha256]);
  }

  async #blobFault(path: string, sha256: string): Promise<Fault | null> {
    try {
      const found = await this.#inspector.contentOf(path);
      return found.sha256 === sha256 ? null : damaged(`holds other bytes, whose sha256 is ${found.sha256}`);
    } catch (error) {
      return faultIn(error);
    }
  }

  async #tell(damages: readonly Damage[], root: StoredRoot): Promise<void> {
    const { inodes, blobs } = await this.#blobsOf(damages, root.manifest.files);
    const holders = await this.#holdersOf(inodes);
    await this.#report(damages, [root, ...holders], [], blobs);
  }

  async #report(
    damages: readonly Damage[],
    roots: readonly StoredRoot[],
    others: readonly string[],
    blobs: readonly string[],
  ): Promise<void> {
    this.#damaged += damages.length;
    const snapshots = new Set([...roots.map(root => root.snapshot), ...others]);
    for (const name of [...snapshots, ...blobs]) this.#told.add(name);
    await this.#onHarm({
      damages,
      unreadable: [],
      snapshots: [...snapshots],
      blobs,
      roots: [...new Map(roots.map(root => [root.path, root])).values()],
      modelUris: await this.#urisOf(snapshots),
    });
  }

  /** The disk may give them again: nothing goes. */
  async #tellUnreadable(damages: readonly Damage[], unreadable: readonly string[]): Promise<void> {
    this.#damaged += damages.length;
    const modelUris = await this.#urisOf(new Set(unreadable));
    await this.#onHarm({ damages, unreadable, snapshots: [], blobs: [], roots: [], modelUris });
  }

  async #urisOf(snapshots: ReadonlySet<string>): Promise<readonly string[]> {
    const published = (await publishedIn(this.#layout)).filter(ref => snapshots.has(ref.published.snapshot));
    return [...new Set(published.map(ref => ref.uri))];
  }

  /** The blobs that are damaged too, and the files by which others may hold the same damage. */
  async #blobsOf(damages: readonly Damage[], files: readonly ManifestFile[]): Promise<Shared> {
    const inodes = new Map<string, string>();
    const blobs = new Set<string>();
    const digests = new Set(damages.map(damage => damage.expected?.sha256));
    for (const damage of damages) {
      const identity = await identityOf(join(this.#layout.root, damage.path));
      if (identity !== null && damage.expected !== null) inodes.set(identity, damage.expected.sha256);
    }
    for (const file of files.filter(({ sha256 }) => digests.has(sha256))) {
      const blob = this.#layout.blob(file.sha256);
      const fault = await this.#inspector.faultOf(blob, file);
      const identity = await identityOf(blob);
      if (fault === null || fault.isUnreadable || identity === null) continue;
      blobs.add(file.sha256);
      inodes.set(identity, file.sha256);
    }
    return { inodes, blobs: [...blobs] };
  }

  async #holdersOf(inodes: ReadonlyMap<string, string>): Promise<readonly StoredRoot[]> {
    const holders: StoredRoot[] = [];
    const digests = new Set(inodes.values());
    for await (const root of rootsIn(this.#layout)) {
      const shared = root.manifest.files.filter(file => digests.has(file.sha256));
      const paths = shared.map(file => join(this.#layout.snapshot(root.snapshot), file.path));
      const identities = await mapBounded(paths, LOOKS_AT_ONCE, identityOf);
      if (identities.some(identity => identity !== null && inodes.has(identity))) holders.push(root);
    }
    return holders;
  }

  #damage(path: string, { words, isUnreadable }: Fault, expected: Damage['expected']): Damage {
    return { path: relative(this.#layout.root, path), found: words, isUnreadable, expected };
  }
}
