import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, link, open, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { SidecarError } from '../domain/errors.ts';
import type { ManifestFile } from '../domain/manifest.ts';
import { makeDirectory, sync, temporaryName } from './durable.ts';
import type { Layout } from './layout.ts';

export type BlobInfo = Omit<ManifestFile, 'path'>;

/** A file in `tmp/` that may become a blob. */
export interface StagedBlob extends BlobInfo {
  readonly path: string;
}

/** File contents by digest. A blob that can be seen is whole, on the disk, and was hashed as it came. */
export class Blobs {
  readonly #layout: Layout;
  readonly #tmp: string;

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
    const path = temporaryName(this.#tmp);
    try {
      return { path, ...(await write(path, body, size)) };
    } catch (error) {
      await rm(path, { force: true });
      throw error;
    }
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

  /** Makes a staged file the blob, unless another process made a good one meanwhile; a damaged one is replaced. */
  async commit(staged: StagedBlob): Promise<void> {
    const path = this.#layout.blob(staged.sha256);
    await makeDirectory(dirname(path), 0o755);
    const isTaken = await link(staged.path, path).then(
      () => true,
      async () => await isIntact(path, staged),
    );
    if (isTaken) await rm(staged.path, { force: true });
    else await rename(staged.path, path);
  }

  /** Makes these blobs' names survive a power cut; their contents do already. */
  async sync(blobs: readonly BlobInfo[]): Promise<void> {
    const directories = new Set(blobs.map(blob => dirname(this.#layout.blob(blob.sha256))));
    await Promise.all([...directories, this.#layout.blobs].map(sync));
  }
}

async function write(path: string, body: AsyncIterable<Uint8Array>, size: number | null): Promise<BlobInfo> {
  const handle = await open(path, 'wx');
  try {
    const blob = await copy(body, handle, size);
    await handle.chmod(0o444);
    await handle.sync();
    return blob;
  } finally {
    await handle.close();
  }
}

async function copy(
  body: AsyncIterable<Uint8Array>,
  handle: FileHandle,
  size: number | null,
): Promise<BlobInfo> {
  const hash = createHash('sha256');
  let written = 0;
  for await (const chunk of body) {
    written += chunk.byteLength;
    if (size !== null && written > size) throw wrongSize(`more than ${size}`, size);
    hash.update(chunk);
    await handle.writeFile(chunk);
  }
  if (size !== null && written !== size) throw wrongSize(String(written), size);
  return { size: written, sha256: hash.digest('hex') };
}

function wrongSize(found: string, expected: number): SidecarError {
  return new SidecarError(
    'artifact_corrupt',
    `An artifact has ${found} bytes, but the listing says ${expected}.`,
    {
      hint: 'The transfer was cut, or the artifact was overwritten after it was logged.',
    },
  );
}

/** Whether the file has this size and hash; false where there is none. */
export async function isIntact(path: string, expected: BlobInfo): Promise<boolean> {
  const stats = await stat(path).catch(() => null);
  if (stats === null || stats.size !== expected.size) return false;
  const hash = createHash('sha256');
  await pipeline(createReadStream(path), hash);
  return hash.digest('hex') === expected.sha256;
}
