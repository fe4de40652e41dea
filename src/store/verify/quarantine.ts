import { lstat, readdir, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { z } from 'zod';
import {
  isAbsent,
  isGone,
  makeDirectory,
  readIfThere,
  sync,
  temporaryName,
  writeFileDurably,
} from '../disk/durable.ts';
import type { Layout } from '../disk/layout.ts';
import { entriesOfTree } from '../disk/tree-walk.ts';
import { readManifest } from '../records/manifest-file.ts';
import { SnapshotId } from '../records/ref-record.ts';
import { identityOf } from './inspect.ts';
import type { Harm } from './scrub.ts';

/** A day and a night, for whoever wants to know what happened to the disk. */
const KEPT_MS = 24 * 3_600_000;
/** Enough to look at; the space is for good models. */
const MOST_KEPT = 100;
const MOST_BYTES_KEPT = 1024 ** 3;

const INTENT = /^intent-.*\.json$/;
const Intent = z.array(z.object({ snapshot: SnapshotId, identity: z.string() }));
type Intent = z.infer<typeof Intent>;

interface Kept {
  readonly path: string;
  readonly bytes: number;
  /** Milliseconds since 1970. */
  readonly changedAt: number;
}

/**
 * Takes what is damaged out of readers' way, so that a crash between any two steps neither gives it again nor loses
 * anything else:
 *   1. what is to go is written down: several snapshots may share a damaged file, and no rename moves two;
 *   2. each snapshot is moved by one rename; a link or a record that still names it gives nothing, and a restart clears it;
 *   3. the blobs are moved; until then nobody shares them without hashing them again;
 *   4. the manifests' records go; until then they name a snapshot that is not there.
 */
export class Quarantine {
  readonly #layout: Layout;
  readonly #tmp: string;

  constructor(layout: Layout, tmp: string) {
    this.#layout = layout;
    this.#tmp = tmp;
  }

  /** Durable when it resolves. Whoever has files open goes on reading them. */
  async take(harm: Pick<Harm, 'snapshots' | 'blobs' | 'roots'>): Promise<void> {
    await makeDirectory(this.#layout.quarantine, 0o700);
    const forget = await this.#writeIntent(harm.snapshots);
    for (const id of harm.snapshots) await this.#move(this.#layout.snapshot(id));
    await sync(this.#layout.snapshots);
    const blobs = harm.blobs.map(sha256 => this.#layout.blob(sha256));
    for (const blob of blobs) await this.#move(blob);
    for (const dir of new Set(blobs.map(dirname))) await sync(dir).catch(unlessAbsent);
    for (const { path } of harm.roots) await this.#dropRecord(path, harm.snapshots);
    await sync(this.#layout.manifests);
    await forget();
  }

  /** Ends what a crash interrupted. */
  async finish(): Promise<void> {
    for (const name of await this.#names()) {
      if (!INTENT.test(name)) continue;
      const path = join(this.#layout.quarantine, name);
      for (const { snapshot, identity } of await intentIn(path)) {
        // Under the same name a good one may have been made since.
        const dir = this.#layout.snapshot(snapshot);
        if ((await identityOf(dir)) === identity) await this.#move(dir);
      }
      await sync(this.#layout.snapshots);
      await rm(path, { recursive: true, force: true });
    }
  }

  /** Removes what has been there for a day, and the oldest of what is too much. */
  async expire(now: number): Promise<void> {
    const kept = await this.list();
    let [count, bytes] = [0, 0];
    for (const entry of kept.toSorted((a, b) => b.changedAt - a.changedAt)) {
      count++;
      bytes += entry.bytes;
      const isKept = now - entry.changedAt <= KEPT_MS && count <= MOST_KEPT && bytes <= MOST_BYTES_KEPT;
      if (!isKept) await rm(entry.path, { recursive: true, force: true });
    }
  }

  /** What is in it, and since when: a rename changes this time, and not the one of the content. */
  async list(): Promise<readonly Kept[]> {
    const items: Kept[] = [];
    for (const name of await this.#names()) {
      const path = join(this.#layout.quarantine, name);
      const stats = INTENT.test(name) ? null : await lstat(path).catch(() => null);
      if (stats === null) continue;
      const bytes = stats.isDirectory() ? await bytesBelow(path) : stats.size;
      items.push({ path, bytes, changedAt: stats.ctimeMs });
    }
    return items;
  }

  async #writeIntent(snapshots: readonly string[]): Promise<() => Promise<void>> {
    const intent: Intent = [];
    for (const snapshot of snapshots) {
      const identity = await identityOf(this.#layout.snapshot(snapshot));
      if (identity !== null) intent.push({ snapshot, identity });
    }
    if (intent.length === 0) return () => Promise.resolve();
    const name = `intent-${basename(temporaryName(this.#tmp))}.json`;
    const path = join(this.#layout.quarantine, name);
    await writeFileDurably(path, JSON.stringify(intent), this.#tmp, 0o600);
    return () => rm(path, { force: true });
  }

  /** At most one of a name is kept, the newest. */
  async #move(path: string): Promise<void> {
    const place = join(this.#layout.quarantine, basename(path));
    await rm(place, { recursive: true, force: true });
    await rename(path, place).catch(unlessAbsent);
  }

  /** Unless it names a snapshot that was made anew meanwhile. */
  async #dropRecord(path: string, snapshots: readonly string[]): Promise<void> {
    const found = await readManifest(path);
    if (found === null || !snapshots.includes(found.snapshot)) return;
    if (await isGone(this.#layout.snapshot(found.snapshot))) await rm(path, { force: true });
  }

  async #names(): Promise<readonly string[]> {
    return await readdir(this.#layout.quarantine).catch((error: unknown) => {
      unlessAbsent(error);
      return [];
    });
  }
}

async function intentIn(path: string): Promise<Intent> {
  try {
    return Intent.parse(JSON.parse((await readIfThere(path)) ?? ''));
  } catch {
    return [];
  }
}

/** Without what is a blob, too, here or in its place. */
async function bytesBelow(path: string): Promise<number> {
  let bytes = 0;
  try {
    for await (const { path: below, entry } of entriesOfTree(path)) {
      const stats = entry.isFile() ? await lstat(join(path, below)) : null;
      if (stats?.nlink === 1) bytes += stats.size;
    }
  } catch {
    // Somebody is taking it away.
  }
  return bytes;
}

function unlessAbsent(error: unknown): void {
  if (!isAbsent(error)) throw error;
}
