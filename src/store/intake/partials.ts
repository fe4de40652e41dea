import { createHash, randomUUID } from 'node:crypto';
import type { Stats } from 'node:fs';
import { mkdir, open, readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { wrongSize } from '../../domain/manifest.ts';
import { isAbsent, readIfThere } from '../disk/durable.ts';
import type { Layout } from '../disk/layout.ts';
import { GrowingFile, type Mark } from './growing-file.ts';

/** Less is fetched again sooner than it is looked at. */
const WORTH_BYTES = 8 * 1024 * 1024;
const MAX_AGE_MS = 24 * 3_600_000;
const KEY = /^[0-9a-f]{64}$/;
/** In a process' own directory: the key, and what tells two downloads of one file apart. */
const IN_WORK = /^partial-([0-9a-f]{64})-/;
const FORMAT = 1;
/** In which `stat` counts, whatever the file system has. */
const BLOCK_BYTES = 512;

const Info = z.object({
  format: z.literal(FORMAT),
  etag: z.string(),
  total: z.number().int().nonnegative(),
  bytes: z.number().int().positive(),
  sha256: z.string(),
});

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
    const info = (await isTaken(kept, dir)) ? await readInfo(dir) : null;
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

interface Place {
  /** In the process' own directory. */
  readonly dir: string;
  /** Where it goes when the download breaks off. */
  readonly kept: string;
  readonly total: number;
  readonly onClose: () => void;
}

/** A large file on its way in. */
export class PartialFile {
  readonly file: GrowingFile;
  readonly #place: Place;
  readonly #close: () => Promise<void>;
  #etag: string | null;

  private constructor(file: GrowingFile, place: Place, etag: string | null, close: () => Promise<void>) {
    this.file = file;
    this.#place = place;
    this.#etag = etag;
    this.#close = close;
  }

  /** Whether what is there is what the info says is looked up here: its bytes are hashed again. */
  static async open(place: Place, info: z.infer<typeof Info> | null): Promise<PartialFile> {
    const handle = await open(join(place.dir, 'data'), info === null ? 'w+' : 'r+');
    const self: { file: PartialFile | null } = { file: null };
    try {
      const growing = new GrowingFile(handle, async mark => await self.file?.remember(mark));
      const isSame = info !== null && info.total === place.total && (await growing.adopt(info));
      if (!isSame) await growing.empty();
      self.file = new PartialFile(growing, place, isSame ? info.etag : null, () => handle.close());
      return self.file;
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  /** The strong ETag of the content whose beginning is there; null where nothing can be continued. */
  get etag(): string | null {
    return this.#etag;
  }

  /** From nothing, with what this content is called from now on. */
  async restart(etag: string | null): Promise<void> {
    this.#etag = null;
    await rm(join(this.#place.dir, 'info.json'), { force: true });
    await this.file.empty();
    this.#etag = etag;
  }

  /** Whole: it moves to `path`, and no partial is left. */
  async finish(path: string): Promise<Mark> {
    const mark = await this.file.finish();
    if (mark.bytes !== this.#place.total) throw wrongSize(String(mark.bytes), this.#place.total);
    await this.#close();
    await rename(join(this.#place.dir, 'data'), path);
    await rm(this.#place.dir, { recursive: true, force: true });
    this.#place.onClose();
    return mark;
  }

  /** Not whole: what is worth it is kept for the next time. Nobody may be writing. */
  async leave(): Promise<void> {
    const { dir, kept } = this.#place;
    try {
      const isWorth = this.#etag !== null && this.file.bytes >= WORTH_BYTES;
      try {
        if (isWorth) await this.remember(await this.file.save());
      } finally {
        // On a full disk, too, where a file that is removed while it is open keeps its space.
        await this.#close();
      }
      if (isWorth) await rename(dir, kept);
    } catch {
      // Another download of the same file has left its own, or the disk takes no more: this one is fetched again.
    } finally {
      await rm(dir, { recursive: true, force: true });
      this.#place.onClose();
    }
  }

  /** The info never claims more than is on the disk; a torn one is worth nothing, and so is what it stands for. */
  async remember({ bytes, sha256 }: Mark): Promise<void> {
    if (this.#etag === null || bytes === 0) return;
    const { dir, total } = this.#place;
    const info: z.infer<typeof Info> = { format: FORMAT, etag: this.#etag, total, bytes, sha256 };
    const temporary = join(dir, `info-${randomUUID()}`);
    await writeFile(temporary, JSON.stringify(info), { mode: 0o600 });
    await rename(temporary, join(dir, 'info.json'));
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

async function isTaken(kept: string, dir: string): Promise<boolean> {
  try {
    await rename(kept, dir);
    return true;
  } catch (error) {
    if (isAbsent(error)) return false;
    throw error;
  }
}

async function readInfo(dir: string): Promise<z.infer<typeof Info> | null> {
  try {
    return Info.parse(JSON.parse((await readIfThere(join(dir, 'info.json'))) ?? ''));
  } catch {
    return null;
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
