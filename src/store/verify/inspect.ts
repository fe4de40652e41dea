import { createHash } from 'node:crypto';
import type { BigIntStats } from 'node:fs';
import { type FileHandle, lstat, open } from 'node:fs/promises';
import type { Clock } from '../../domain/clock.ts';
import { errnoOf } from '../../domain/errors.ts';
import { delay } from '../../policy/abort.ts';
import { READ_REGULAR } from '../disk/regular.ts';
import type { BlobInfo } from '../intake/blobs.ts';
import type { Pace } from './pace.ts';

/** Small enough that neither a stop nor anybody else's read waits for it: 4 ms of a disk that reads 32 MB/s. */
const CHUNK_BYTES = 128 * 1024;
/** Timers are good to a millisecond or two: shorter rests are put together. */
const SHORTEST_REST_MS = 10;
/** A file costs a look-up, however small it is: at 8 MiB/s no more than 2,048 files are looked at in a second. */
const FILE_COST_BYTES = 4 * 1024;

/** What says that something else is in the file's place. Errors in neither list (`EMFILE`, `ENOMEM`) end the pass. */
const NO_FILE = new Set(['EISDIR', 'ELOOP', 'ENXIO']);
/** What says that the disk does not give the file, now or ever: not what is in it. */
const UNREADABLE = new Set([
  ...[
    'EIO',
    'EACCES',
    'EPERM',
    'ESTALE',
    'ETIMEDOUT',
    'EUCLEAN',
    'EBADMSG',
    'EROFS',
    'ENOTSUP',
    'EOPNOTSUPP',
  ],
]);

/** What is wrong with a file. */
export interface Fault {
  /** They follow its name. */
  readonly words: string;
  /** Whether the disk only fails to give it: it may yet be whole, and is not taken away. */
  readonly isUnreadable: boolean;
}

export interface InspectorOptions {
  readonly pace: Pace;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/** Compares files with what they should hold. What several names share is read once. */
export class Inspector {
  readonly #options: InspectorOptions;
  readonly #buffer = Buffer.allocUnsafe(CHUNK_BYTES);
  /** Digests by inode, of files that were as they should be. */
  readonly #good = new Map<string, string>();
  #files = 0;
  #bytes = 0;

  constructor(options: InspectorOptions) {
    this.#options = options;
  }

  /** Read so far; a file with several names counts once. */
  get read(): { readonly files: number; readonly bytes: number } {
    return { files: this.#files, bytes: this.#bytes };
  }

  /** Null where nothing is wrong. */
  async faultOf(path: string, expected: BlobInfo): Promise<Fault | null> {
    try {
      const stats = await this.#look(path);
      if (!stats.isFile()) return damaged('is not a file');
      if (Number(stats.size) !== expected.size)
        return damaged(`has ${stats.size} bytes instead of ${expected.size}`);
      if (this.#good.get(inodeOf(stats)) === expected.sha256) return null;
      const sha256 = await this.#hash(path);
      if (sha256 !== expected.sha256) return damaged(`holds other bytes, whose sha256 is ${sha256}`);
      this.#good.set(inodeOf(stats), sha256);
      return null;
    } catch (error) {
      return faultIn(error);
    }
  }

  /** What a file holds, whatever it should. */
  async contentOf(path: string): Promise<BlobInfo> {
    const stats = await this.#look(path);
    const size = Number(stats.size);
    const known = this.#good.get(inodeOf(stats));
    return { size, sha256: known ?? (await this.#hash(path)) };
  }

  async #look(path: string): Promise<BigIntStats> {
    await this.#rest(FILE_COST_BYTES);
    return await lstat(path, { bigint: true });
  }

  async #hash(path: string): Promise<string> {
    // Neither a link out of the cache nor a pipe that nobody writes to.
    const handle = await open(path, READ_REGULAR);
    try {
      return await this.#hashAll(handle);
    } finally {
      await handle.close();
    }
  }

  async #hashAll(handle: FileHandle): Promise<string> {
    const hash = createHash('sha256');
    this.#files++;
    for (;;) {
      const { bytesRead } = await handle.read(this.#buffer, 0, CHUNK_BYTES, null);
      if (bytesRead === 0) return hash.digest('hex');
      hash.update(this.#buffer.subarray(0, bytesRead));
      this.#bytes += bytesRead;
      await this.#rest(bytesRead);
    }
  }

  async #rest(bytes: number): Promise<void> {
    const { pace, clock, signal } = this.#options;
    signal.throwIfAborted();
    const ms = pace.restAfter(bytes, clock.monotonic());
    if (ms >= SHORTEST_REST_MS) await delay(ms, signal);
  }
}

/** Another file may get the number of one that was removed, but not its time. */
function inodeOf({ dev, ino, mtimeNs }: BigIntStats): string {
  return `${dev} ${ino} ${mtimeNs}`;
}

/** @throws the error where it says nothing of the file */
export function faultIn(error: unknown): Fault {
  const errno = errnoOf(error);
  if (errno === 'ENOENT' || errno === 'ENOTDIR') return damaged('is missing');
  const words = `cannot be read (${errno})`;
  if (NO_FILE.has(errno)) return damaged(words);
  if (UNREADABLE.has(errno)) return { words, isUnreadable: true };
  throw error;
}

export function damaged(words: string): Fault {
  return { words, isUnreadable: false };
}

/** The same for every name of one file; null where there is none. */
export async function identityOf(path: string): Promise<string | null> {
  const stats = await lstat(path, { bigint: true }).catch(() => null);
  return stats === null ? null : `${stats.dev} ${stats.ino}`;
}
