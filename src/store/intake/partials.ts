import { createHash, randomUUID } from 'node:crypto';
import type { Stats } from 'node:fs';
import { mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { isAbsent } from '../disk/durable.ts';
import type { Layout } from '../disk/layout.ts';
import { PartialFile, readInfo } from './partial-file.ts';

const MAX_AGE_MS = 24 * 3_600_000;
const KEY = /^[0-9a-f]{64}$/;
/** In a process' own directory: the key, and what tells two downloads of one file apart. */
const IN_WORK = /^partial-([0-9a-f]{64})-/;
/** In which `stat` counts, whatever the file system has. */
const BLOCK_BYTES = 512;

/** What a partial must be of, to go on with it. */
export interface PartialKey {
  /** Credential, artifact root and path, as one text. */
  readonly identity: string;
  readonly total: number;
}

/** For whoever counts what the cache holds. */
export interface PartialInfo {
  readonly path: string;
  readonly bytes: number;
  /** Milliseconds since 1970. */
  readonly changedAt: number;
}

/**
 * Beginnings of large files. One is worked on in the directory of one process only: it is taken by a rename and given back by one,
 * and what a process leaves that dies is given back by whoever sweeps up after it.
 */
export class Partials {
  readonly #layout: Layout;
  readonly #tmp: string;
  readonly #inWork = new Set<Promise<void>>();

  constructor(layout: Layout, tmp: string) {
    this.#layout = layout;
    this.#tmp = tmp;
  }

  /** Resolves when every one in work was finished or left. */
  async idle(): Promise<void> {
    await Promise.all(this.#inWork);
  }

  /** @param fresh forget what is there */
  async take(key: PartialKey, fresh: boolean): Promise<PartialFile> {
    const name = createHash('sha256').update(key.identity).digest('hex');
    const kept = join(this.#layout.partials, name);
    const dir = join(this.#tmp, `partial-${name}-${randomUUID().slice(0, 8)}`);
    if (fresh) await rm(kept, { recursive: true, force: true });
    const info = (await isTaken(kept, dir)) ? await infoOrBack(dir, kept) : null;
    await mkdir(dir, { recursive: true, mode: 0o700 });
    const { promise, resolve } = Promise.withResolvers<void>();
    const place = { dir, kept, total: key.total, onClose: resolve };
    const file = await PartialFile.open(place, info).catch(async error => {
      await rm(dir, { recursive: true, force: true });
      throw error;
    });
    this.#inWork.add(promise);
    void promise.then(() => this.#inWork.delete(promise));
    return file;
  }

  /** Gives back what was in work in a directory that is about to be removed. */
  async rescue(tmp: string): Promise<void> {
    for (const name of await readdir(tmp).catch(() => [])) {
      const key = IN_WORK.exec(name)?.[1];
      if (key === undefined || (await readInfo(join(tmp, name))) === null) continue;
      await rename(join(tmp, name), join(this.#layout.partials, key)).catch(() => undefined);
    }
  }

  /** All that nobody works on. */
  async list(): Promise<readonly PartialInfo[]> {
    const names = (await readdir(this.#layout.partials).catch(() => [])).filter(name => KEY.test(name));
    const found = await Promise.all(names.map(name => infoOf(join(this.#layout.partials, name))));
    return found.filter(info => info !== null);
  }

  /** Removes those that nobody came back for within 24 h. */
  async sweep(now: number): Promise<void> {
    for (const { path, changedAt } of await this.list()) {
      if (now - changedAt > MAX_AGE_MS) await rm(path, { recursive: true, force: true });
    }
  }
}

/** What a process has of the large files that it is downloading, given its own directory. */
export async function bytesInWork(tmp: string): Promise<number> {
  const names = (await readdir(tmp).catch(() => [])).filter(name => IN_WORK.test(name));
  const files = names.map(name => stat(join(tmp, name, 'data')).catch(() => null));
  return (await Promise.all(files)).reduce((sum, file) => sum + bytesOnDisk(file), 0);
}

/** Ranges of it may be missing. */
function bytesOnDisk(file: Stats | null): number {
  return (file?.blocks ?? 0) * BLOCK_BYTES;
}

/** What the disk does not give now is worth as much as before. */
async function infoOrBack(dir: string, kept: string): ReturnType<typeof readInfo> {
  try {
    return await readInfo(dir);
  } catch (error) {
    await rename(dir, kept).catch(() => undefined);
    throw error;
  }
}

async function isTaken(kept: string, dir: string): Promise<boolean> {
  try {
    await rename(kept, dir);
    return true;
  } catch (error) {
    if (isAbsent(error)) return false;
    throw error;
  }
}

async function infoOf(path: string): Promise<PartialInfo | null> {
  try {
    const [data, info] = [await stat(join(path, 'data')), await stat(join(path, 'info.json'))];
    return { path, bytes: bytesOnDisk(data), changedAt: info.mtimeMs };
  } catch (error) {
    // One without its parts is litter, and old enough to go.
    return isAbsent(error) ? { path, bytes: 0, changedAt: 0 } : null;
  }
}
