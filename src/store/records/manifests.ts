import { readdir, rm, unlink } from 'node:fs/promises';
import { z } from 'zod';
import type { Manifest } from '../../domain/manifest.ts';
import type { Scope } from '../../domain/scope.ts';
import type { ArtifactRoot, VersionRoot } from '../../domain/version.ts';
import { ifAbsent, readIfThere, writeFileDurably } from '../disk/durable.ts';
import { DOUBTED, type Layout } from '../disk/layout.ts';
import { type Ref, rootOf, SnapshotId } from './ref-record.ts';

const FORMAT = 1;

const StoredManifest = z.object({
  format: z.literal(FORMAT),
  snapshot: SnapshotId,
  digest: z.string(),
  bytes: z.number(),
  files: z.array(z.object({ path: z.string(), size: z.number(), sha256: z.string() })),
});

/** A fetched artifact root: what it holds, and the snapshot made of it. */
export interface FetchedRoot {
  readonly manifest: Manifest;
  readonly snapshot: string;
}

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
    const text = await readIfThere(path);
    if (text === null) return null;
    const stored = parseManifest(text);
    if (stored === null) {
      await unlink(path).catch(() => undefined);
      return null;
    }
    const { snapshot, files, digest, bytes } = stored;
    return { snapshot, manifest: { files, digest, bytes } };
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
    const stored: z.infer<typeof StoredManifest> = {
      format: FORMAT,
      snapshot: fetched.snapshot,
      digest: fetched.manifest.digest,
      bytes: fetched.manifest.bytes,
      files: [...fetched.manifest.files],
    };
    await writeFileDurably(path, JSON.stringify(stored), this.#tmp, 0o600);
  }
}

/** A record as it is on the disk; null where there is none, or it is worth nothing. */
export async function readManifest(path: string): Promise<FetchedRoot | null> {
  const stored = parseManifest((await readIfThere(path)) ?? '');
  if (stored === null) return null;
  const { snapshot, files, digest, bytes } = stored;
  return { snapshot, manifest: { files, digest, bytes } };
}

/** Null where it is damaged. */
export function parseManifest(text: string): z.infer<typeof StoredManifest> | null {
  try {
    return StoredManifest.parse(JSON.parse(text));
  } catch {
    return null;
  }
}
