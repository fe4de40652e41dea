import { createHash, randomUUID } from 'node:crypto';
import { chmod, constants, copyFile, link, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf, SidecarError } from '../../domain/errors.ts';
import type { Manifest, ManifestFile } from '../../domain/manifest.ts';
import type { Scope } from '../../domain/scope.ts';
import type { VersionRoot } from '../../domain/version.ts';
import { isSliceOver, nextSlice } from '../../policy/slices.ts';
import { forEach } from '../disk/bulk.ts';
import {
  ifAbsent,
  isGone,
  isMissing,
  makeUnsynced,
  sync,
  temporaryName,
  unlessUnsupported,
} from '../disk/durable.ts';
import type { Layout } from '../disk/layout.ts';
import { entriesOfTree } from '../disk/tree-walk.ts';
import { Vanished } from '../disk/vanished.ts';
import { isIntact } from './blobs.ts';

/** Where a file system knows no hard links, or a blob has as many as it can. */
const NO_LINK = new Set(['EXDEV', 'EPERM', 'EMLINK', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS']);

/** Whole versions. A directory here is complete from the moment it is visible, and never changes. */
export class Snapshots {
  readonly #layout: Layout;
  readonly #tmp: string;

  constructor(layout: Layout, tmp: string) {
    this.#layout = layout;
    this.#tmp = tmp;
  }

  /** False only where it is certain that it is gone. */
  async has(id: string): Promise<boolean> {
    return !(await isGone(this.#layout.snapshot(id)));
  }

  /** The ids of all, by one look. */
  async all(): Promise<ReadonlySet<string>> {
    const entries = await ifAbsent([], readdir(this.#layout.snapshots, { withFileTypes: true }));
    return new Set(entries.filter(entry => entry.isDirectory()).map(entry => entry.name));
  }

  /** Lays out the manifest's files, of which every blob is there; returns the snapshot's id. */
  async commit(scope: Scope, wanted: VersionRoot, manifest: Manifest): Promise<string> {
    const id = idOf(scope, wanted, manifest);
    if (await isMissing(this.#layout.snapshot(id))) return await this.#build(id, manifest);
    // It may have been damaged since; it is never changed in place, because somebody may be reading it.
    if (await this.#isWhole(id, manifest)) return id;
    return await this.#build(`${id}-${randomUUID().slice(0, 8)}`, manifest);
  }

  /** Under its name, which was moved away. */
  async rebuild(id: string, manifest: Manifest): Promise<void> {
    await this.#build(id, manifest);
  }

  async #build(id: string, manifest: Manifest): Promise<string> {
    const temporary = temporaryName(this.#tmp);
    let isMoved = false;
    try {
      const directories = await this.#layOut(temporary, manifest.files);
      await forEach(directories, sync);
      isMoved = await rename(temporary, this.#layout.snapshot(id)).then(() => true, unlessThere);
      await sync(this.#layout.snapshots);
      return id;
    } finally {
      if (!isMoved) await rm(temporary, { recursive: true, force: true });
    }
  }

  async #layOut(base: string, files: readonly ManifestFile[]): Promise<readonly string[]> {
    const directories = await directoriesOf(base, files);
    // Each is synced at the end.
    for (const directory of directories) await makeUnsynced(directory, 0o755);
    await forEach(files, file => this.#place(file, join(base, file.path)));
    return directories;
  }

  async #place(file: ManifestFile, path: string): Promise<void> {
    const blob = this.#layout.blob(file.sha256);
    try {
      await link(blob, path);
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') throw new Vanished(error);
      if (errnoOf(error) === 'EEXIST') throw sameName(file.path);
      if (!NO_LINK.has(errnoOf(error))) throw error;
      await copyFile(blob, path, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
      await chmod(path, 0o444).catch(unlessUnsupported);
      await sync(path);
    }
  }

  async #isWhole(id: string, manifest: Manifest): Promise<boolean> {
    const base = this.#layout.snapshot(id);
    const count = await countFiles(base).catch(() => null);
    if (count !== manifest.files.length) return false;
    for (const file of manifest.files) {
      if (!(await isIntact(join(base, file.path), file))) return false;
    }
    return true;
  }
}

/** Neither of them may take the other's place. */
function sameName(path: string): SidecarError {
  const message = `The version has ${path} and another file of this name but for upper and lower case, which the file system of the cache does not tell apart.`;
  return new SidecarError('unsafe_path', message, {
    hint: 'Move SIDECAR_CACHE_DIR to a file system that tells case.',
  });
}

async function countFiles(base: string): Promise<number> {
  let count = 0;
  for await (const _ of entriesOfTree(base)) count += 1;
  return count;
}

/** The directory itself and all below it, each after the one that holds it. */
async function directoriesOf(base: string, files: readonly ManifestFile[]): Promise<readonly string[]> {
  const known = new Set<string>();
  const directories = [base];
  for (const { path } of files) {
    const above: string[] = [];
    // Up to the first that is known: its parents are.
    for (let end = path.lastIndexOf('/'); end > 0; end = path.lastIndexOf('/', end - 1)) {
      const dir = path.slice(0, end);
      if (known.has(dir)) break;
      known.add(dir);
      above.push(dir);
    }
    for (const dir of above.reverse()) directories.push(join(base, dir));
    if (isSliceOver()) await nextSlice();
  }
  return directories;
}

/** Another process may have built the same snapshot meanwhile. */
function unlessThere(error: unknown): false {
  if (errnoOf(error) !== 'ENOTEMPTY' && errnoOf(error) !== 'EEXIST') throw error;
  return false;
}

function idOf(scope: Scope, { root, version }: VersionRoot, manifest: Manifest): string {
  const identity = JSON.stringify([scope.id, root, version, manifest.digest]);
  return createHash('sha256').update(identity).digest('hex').slice(0, 32);
}
