import { errnoOf, type SidecarError } from '../domain/errors.ts';
import { unusable } from './access.ts';
import { tryWriting } from './disk/durable.ts';

/** Whether a directory that could be written at the start still can: a disk may become full or read-only at any time. */
export class WriteProbe {
  readonly #cacheDir: string;
  readonly #tmp: string;
  #trouble: SidecarError | null = null;

  /** @param tmp of this process */
  constructor(cacheDir: string, tmp: string) {
    this.#cacheDir = cacheDir;
    this.#tmp = tmp;
  }

  /** Why not, or null. */
  async look(): Promise<SidecarError | null> {
    const error = await tryWriting(this.#tmp);
    this.#trouble = error === null ? null : unusable(this.#cacheDir, error);
    return this.#trouble;
  }

  /** @throws SidecarError where it was read-only last; a full one may have room once old versions are collected */
  refuse(): void {
    if (errnoOf(this.#trouble?.cause) === 'EROFS') throw this.#trouble;
  }
}
