import { readdir, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { SidecarError } from '../../domain/errors.ts';
import { ifAbsent, readIfThere, writeFileDurably } from '../disk/durable.ts';

const SUFFIX = '.json';

/** Texts that are kept by name. Whoever reads them knows what they mean. */
export class Texts {
  /** This process, as no other is called; empty where nothing can be written. */
  readonly process: string;
  readonly #dir: string;
  readonly #tmp: string;
  readonly #readOnly: SidecarError | null;

  /** @param readOnly why nothing can be written; null where it can */
  constructor(dir: string, tmp: string, readOnly: SidecarError | null) {
    this.process = readOnly === null ? basename(tmp) : '';
    this.#dir = dir;
    this.#tmp = tmp;
    this.#readOnly = readOnly;
  }

  /** @param id fit for a file name */
  async write(id: string, text: string): Promise<void> {
    if (this.#readOnly !== null) throw this.#readOnly;
    await writeFileDurably(this.#path(id), text, this.#tmp, 0o600);
  }

  async read(id: string): Promise<string | null> {
    return await readIfThere(this.#path(id));
  }

  async ids(): Promise<readonly string[]> {
    const names = await ifAbsent([], readdir(this.#dir));
    return names.filter(name => name.endsWith(SUFFIX)).map(name => name.slice(0, -SUFFIX.length));
  }

  async remove(id: string): Promise<void> {
    if (this.#readOnly === null) await rm(this.#path(id), { recursive: true, force: true });
  }

  #path(id: string): string {
    return join(this.#dir, `${id}${SUFFIX}`);
  }
}
