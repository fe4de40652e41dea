import { randomUUID } from 'node:crypto';
import { open, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { wrongSize } from '../../domain/manifest.ts';
import { readIfThere } from '../disk/durable.ts';
import { FollowedFile } from './followed-file.ts';
import { GrowingFile, type Mark } from './growing-file.ts';

/** Less is fetched again sooner than it is looked at. */
const WORTH_BYTES = 8 * 1024 * 1024;
const FORMAT = 1;

const Info = z.object({
  format: z.literal(FORMAT),
  etag: z.string(),
  total: z.number().int().nonnegative(),
  bytes: z.number().int().positive(),
  sha256: z.string(),
});

type Info = z.infer<typeof Info>;

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
  /** For whoever wants what there is of it. */
  readonly followed: FollowedFile;
  readonly #place: Place;
  readonly #close: () => Promise<void>;
  #etag: string | null;

  private constructor(file: GrowingFile, place: Place, etag: string | null, close: () => Promise<void>) {
    this.file = file;
    this.followed = new FollowedFile(join(place.dir, 'data'), place.total, () => file.bytes);
    this.#place = place;
    this.#etag = etag;
    this.#close = close;
  }

  /** Whether what is there is what the info says is looked up here: its bytes are hashed again. */
  static async open(place: Place, info: Info | null): Promise<PartialFile> {
    const handle = await open(join(place.dir, 'data'), info === null ? 'w+' : 'r+');
    const self: { file: PartialFile | null } = { file: null };
    try {
      const growing = new GrowingFile(
        handle,
        async mark => await self.file?.remember(mark),
        () => self.file?.followed.grown(),
      );
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
    await this.followed.anew(async () => {
      await rm(join(this.#place.dir, 'info.json'), { force: true });
      await this.file.empty();
    });
    this.#etag = etag;
  }

  /** Whole: it moves to `path`, and no partial is left. */
  async finish(path: string): Promise<Mark> {
    const mark = await this.file.finish();
    if (mark.bytes !== this.#place.total) throw wrongSize(String(mark.bytes), this.#place.total);
    this.followed.whole();
    await this.#close();
    await rename(join(this.#place.dir, 'data'), path);
    await rm(this.#place.dir, { recursive: true, force: true });
    this.#place.onClose();
    return mark;
  }

  /** Not whole: what is worth it is kept for the next time. Nobody may be writing. */
  async leave(): Promise<void> {
    const { dir, kept } = this.#place;
    this.followed.left();
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
    const info: Info = { format: FORMAT, etag: this.#etag, total, bytes, sha256 };
    const temporary = join(dir, `info-${randomUUID()}`);
    await writeFile(temporary, JSON.stringify(info), { mode: 0o600 });
    await rename(temporary, join(dir, 'info.json'));
  }
}

/** What is said to be in the directory of a partial; null where that is worth nothing. @throws what a failing disk says */
export async function readInfo(dir: string): Promise<Info | null> {
  const text = await readIfThere(join(dir, 'info.json'));
  try {
    return Info.parse(JSON.parse(text ?? ''));
  } catch {
    return null;
  }
}
