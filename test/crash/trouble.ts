import { mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';

const PRELOAD = new URL('../support/preload/disk.mjs', import.meta.url).href;

export type Failure = 'ENOSPC' | 'EIO' | 'EROFS' | 'ESTALE' | 'EACCES' | 'ETIMEDOUT' | 'ENOTSUP' | 'hang';
export type Act = 'none' | 'kill-before' | 'kill-after' | Failure;

/** At the `nth` of the operations on the cache that match, or at each: `kind path [-> path]`, relative to the layout's root. */
export interface Plan {
  readonly match: RegExp;
  /** Null for each. */
  readonly nth: number | null;
  readonly act: Act;
}

/** What happens to the file operations of a sidecar that was started with `env`. */
export class Trouble {
  readonly env: Readonly<Record<string, string>>;
  readonly #file: string;
  #plans = 0;

  private constructor(dir: string) {
    this.#file = join(dir, 'trouble.json');
    this.env = { NODE_OPTIONS: `--import=${PRELOAD}`, DISK_TROUBLE: this.#file };
  }

  /** Removed at the test's end. */
  static async make(): Promise<Trouble> {
    const dir = await mkdtemp(join(tmpdir(), 'sidecar-trouble-'));
    onTestFinished(() => rm(dir, { recursive: true, force: true }));
    return new Trouble(dir);
  }

  /** Counting begins anew. */
  async plan({ match, nth, act }: Plan): Promise<void> {
    this.#plans += 1;
    const text = JSON.stringify({ plan: this.#plans, match: match.source, nth, act });
    await rm(`${this.#file}.log`, { force: true });
    await writeFile(`${this.#file}.next`, text);
    await rename(`${this.#file}.next`, this.#file);
  }

  async clear(): Promise<void> {
    await rm(this.#file, { force: true });
  }

  /** The operations that were counted since the plan was made. */
  async counted(): Promise<readonly string[]> {
    const text = await readFile(`${this.#file}.log`, 'utf8').catch(() => '');
    return text.split('\n').slice(0, -1);
  }
}
