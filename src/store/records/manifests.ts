import { rm, unlink } from 'node:fs/promises';
import { z } from 'zod';
import type { Manifest } from '../../domain/manifest.ts';
import type { Scope } from '../../domain/scope.ts';
import type { ArtifactRoot } from '../../domain/version.ts';
import { readIfThere, writeFileDurably } from '../disk/durable.ts';
import type { Layout } from '../disk/layout.ts';
import { SnapshotId } from './ref-record.ts';

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

/** What artifact roots hold. Artifacts of a version do not change, so a root need not be fetched twice. */
export class Manifests {
  readonly #layout: Layout;
  readonly #tmp: string;

  constructor(layout: Layout, tmp: string) {
    this.#layout = layout;
    this.#tmp = tmp;
  }

  /** Null where the root was not fetched yet, or its record is damaged and worth nothing. */
  async find(scope: Scope, root: ArtifactRoot): Promise<FetchedRoot | null> {
    const path = this.#layout.manifest(scope, root);
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

  async save(scope: Scope, root: ArtifactRoot, fetched: FetchedRoot): Promise<void> {
    await this.saveAt(this.#layout.manifest(scope, root), fetched);
  }

  async remove(scope: Scope, root: ArtifactRoot): Promise<void> {
    await rm(this.#layout.manifest(scope, root), { force: true });
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
