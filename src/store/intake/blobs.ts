import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { link, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { pipeline } from 'node:stream/promises';
import type { ManifestFile } from '../../domain/manifest.ts';
import { SingleFlight } from '../../policy/single-flight.ts';
import { isAbsent, makeUnsynced, temporaryName } from '../disk/durable.ts';
import type { Layout } from '../disk/layout.ts';
import { GrowingFile } from './growing-file.ts';
import type { PartialFile } from './partial-file.ts';
import { hasSize, writeSmallFiles } from './small-files.ts';

export type BlobInfo = Omit<ManifestFile, 'path'>;

/** A file in `tmp/` that may become a blob. */
export interface StagedBlob extends BlobInfo {
  readonly path: string;
}

/** File contents by digest. A blob that can be seen is whole, on the disk, and was hashed as it came. */
export class Blobs {
  readonly #layout: Layout;
  readonly #tmp: string;
  readonly #making = new SingleFlight<unknown>();

  constructor(layout: Layout, tmp: string) {
    this.#layout = layout;
    this.#tmp = tmp;
  }

  /**
   * Takes a body in, aside: it is hashed, on the disk, and no blob yet.
   * @param size what was promised, in bytes; null where nothing was
   * @throws SidecarError `artifact_corrupt` where the body is longer or shorter
   */
  async stage(body: AsyncIterable<Uint8Array>, size: number | null): Promise<StagedBlob> {
    return await this.#stage(async path => {
      const handle = await open(path, 'wx+');
      try {
        const file = new GrowingFile(handle, null);
        await file.write(body, { at: 0, end: size ?? Number.POSITIVE_INFINITY });
        const { bytes, sha256 } = await file.finish();
        return { size: bytes, sha256 };
      } finally {
        await handle.close();
      }
    });
  }

  /** The same for small files that have come already; their paths. */
  async stageSmall(files: readonly Uint8Array[]): Promise<readonly string[]> {
    return await writeSmallFiles(this.#tmp, files);
  }

  /** The same for a large file that was put together. */
  async stagePartial(partial: PartialFile): Promise<StagedBlob> {
    return await this.#stage(async path => {
      const { bytes, sha256 } = await partial.finish(path);
      return { size: bytes, sha256 };
    });
  }

  async #stage(write: (path: string) => Promise<BlobInfo>): Promise<StagedBlob> {
    const path = temporaryName(this.#tmp);
    try {
      return { path, ...(await write(path)) };
    } catch (error) {
      await rm(path, { force: true });
      throw error;
    }
  }

  /** Where a content is once it is a blob. */
  path(sha256: string): string {
    return this.#layout.blob(sha256);
  }

  /** Another name for a blob, of this process: none that has one is collected. Null where there is no blob, or no links. */
  async hold(sha256: string): Promise<string | null> {
    const hold = temporaryName(this.#tmp);
    return await link(this.#layout.blob(sha256), hold).then(
      () => hold,
      () => null,
    );
  }

  /** Whether a good one is there, which other versions may share. */
  async has(blob: BlobInfo): Promise<boolean> {
    return await isIntact(this.#layout.blob(blob.sha256), blob);
  }

  /**
   * Makes a staged file the blob. One that is there by now, damaged or from another process, is replaced: whoever has it keeps
   * what they have. The names are not synced: a snapshot has names of its own, and a blob that a power cut takes is made again.
   */
  async commit(staged: StagedBlob): Promise<void> {
    const path = this.#layout.blob(staged.sha256);
    await rename(staged.path, path).catch(async error => {
      if (!isAbsent(error)) throw error;
      const dir = dirname(path);
      await this.#making.join(dir, () => makeUnsynced(dir, 0o755));
      await rename(staged.path, path);
    });
  }
}

/** Whether the file has this size and hash; false where there is none, or it cannot be read. */
export async function isIntact(path: string, expected: BlobInfo): Promise<boolean> {
  if (!(await hasSize(path, expected.size))) return false;
  const hash = createHash('sha256');
  const isRead = await pipeline(createReadStream(path), hash).then(
    () => true,
    () => false,
  );
  return isRead && hash.digest('hex') === expected.sha256;
}
