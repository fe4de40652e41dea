import { readdir, rm, unlink } from 'node:fs/promises';
import type { Scope } from '../../domain/scope.ts';
import type { ArtifactRoot, VersionRoot } from '../../domain/version.ts';
import { inSlices } from '../../policy/slices.ts';
import { ifAbsent, writeFileDurably } from '../disk/durable.ts';
import { DOUBTED, type Layout } from '../disk/layout.ts';
import { type FetchedRoot, readManifest, textOf } from './manifest-file.ts';
import { type Ref, rootOf } from './ref-record.ts';

export type { FetchedRoot } from './manifest-file.ts';

/** What artifact roots held, each for one version: that need not be fetched twice. */
export class Manifests {
  readonly #layout: Layout;
  readonly #tmp: string;

  constructor(layout: Layout, tmp: string) {
    this.#layout = layout;
    this.#tmp = tmp;
  }

  /** Null where it was not fetched for that version yet, or its record is damaged and worth nothing. */
  async find(scope: Scope, wanted: VersionRoot, refs: () => readonly Ref[]): Promise<FetchedRoot | null> {
    const found = await this.#findAt(this.#layout.manifest(scope, wanted));
    return found ?? (await this.#findOlder(scope, wanted, refs()));
  }

  /** An earlier build kept it by its root alone: it is this version's where it was published as that. */
  async #findOlder(scope: Scope, wanted: VersionRoot, refs: readonly Ref[]): Promise<FetchedRoot | null> {
    const isWanted = (one: VersionRoot | null) =>
      one?.version === wanted.version && JSON.stringify(one.root) === JSON.stringify(wanted.root);
    for (const { published } of refs) {
      if (published === null || !isWanted(rootOf(published))) continue;
      const found = await this.#findAt(this.#layout.olderManifest(scope, wanted.root));
      if (found?.snapshot === published.snapshot) return found;
    }
    return null;
  }

  async #findAt(path: string): Promise<FetchedRoot | null> {
    const found = await readManifest(path);
    if (found === null) await unlink(path).catch(() => undefined);
    return found;
  }

  /** What it held before its files were changed, or may have been. */
  async findDoubted(scope: Scope, wanted: VersionRoot): Promise<FetchedRoot | null> {
    return await readManifest(`${this.#layout.manifest(scope, wanted)}${DOUBTED}`);
  }

  /** The names of the records of a root, for whichever versions. */
  async namesOf(scope: Scope, root: ArtifactRoot): Promise<readonly string[]> {
    const names = await ifAbsent([], readdir(this.#layout.manifests));
    return names.filter(name => name.endsWith('.json') && this.#layout.isManifestOf(name, scope, root));
  }

  async save(scope: Scope, wanted: VersionRoot, fetched: FetchedRoot): Promise<void> {
    const path = this.#layout.manifest(scope, wanted);
    await this.saveAt(path, fetched);
    await rm(`${path}${DOUBTED}`, { force: true });
  }

  /** Of files that may have been changed while they were fetched. */
  async saveDoubted(scope: Scope, wanted: VersionRoot, fetched: FetchedRoot): Promise<void> {
    await this.saveAt(`${this.#layout.manifest(scope, wanted)}${DOUBTED}`, fetched);
  }

  async saveAt(path: string, fetched: FetchedRoot): Promise<void> {
    await writeFileDurably(path, await inSlices(textOf(fetched)), this.#tmp, 0o600);
  }
}
