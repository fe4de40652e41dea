import { readdir, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../../domain/clock.ts';
import { mapBounded } from '../../policy/bounded.ts';
import { ifAbsent, isAbsent } from '../disk/durable.ts';
import type { Layout } from '../disk/layout.ts';

const READS_AT_ONCE = 8;
/** What another process is told of a snapshot that is given, so often at most. */
const TELL_MS = 60_000;
/** What was given so long ago is loaded by now. */
const GIVEN_MS = 5 * 60_000;
/** More than a cache gives within that time. */
const MOST_GIVEN = 10_000;

/**
 * When snapshots were found again, or stopped being what a ref points to: the times of empty files, since a snapshot
 * itself never changes.
 */
export class Usage {
  readonly #dir: string;
  readonly #clock: Clock;
  readonly #superseded = new Set<string>();
  /** When snapshots were last given, and when that was last noted on the disk; the one that was given longest ago first. */
  readonly #given = new Map<string, { readonly at: number; readonly notedAt: number }>();

  constructor(layout: Layout, clock: Clock) {
    this.#dir = layout.used;
    this.#clock = clock;
  }

  /** It was built, or may be published again: from now on it is not collected for a while. */
  async found(snapshot: string): Promise<void> {
    this.#superseded.delete(snapshot);
    await this.#touch(snapshot);
  }

  /**
   * Somebody was told where it is, and loads it now.
   * @param isOnRecord whether a ref's record says so, too, which other processes read
   */
  given(snapshot: string, isOnRecord: boolean): void {
    const now = this.#clock.now();
    const notedAt = this.#given.get(snapshot)?.notedAt ?? 0;
    const isDue = !isOnRecord && now - notedAt >= TELL_MS;
    this.#given.delete(snapshot);
    this.#given.set(snapshot, { at: now, notedAt: isDue ? now : notedAt });
    const [oldest] = this.#given.keys();
    if (oldest !== undefined && this.#given.size > MOST_GIVEN) this.#given.delete(oldest);
    if (isDue) void this.#touch(snapshot);
  }

  /** Readers that resolved it before may read it for a while yet. */
  async superseded(snapshot: string): Promise<void> {
    this.#superseded.add(snapshot);
    await this.#touch(snapshot);
  }

  /** Whether this process superseded it, and has not found it since. */
  isSuperseded(snapshot: string): boolean {
    return this.#superseded.has(snapshot);
  }

  /** Milliseconds since 1970; 0 where nobody noted any. */
  async lastOf(snapshot: string): Promise<number> {
    const notedAt = (await ifAbsent(null, stat(join(this.#dir, snapshot))))?.mtimeMs ?? 0;
    return Math.max(notedAt, this.#given.get(snapshot)?.at ?? 0);
  }

  /** Of all snapshots. */
  async all(): Promise<ReadonlyMap<string, number>> {
    const names = await ifAbsent([], readdir(this.#dir));
    const times = await mapBounded(names, READS_AT_ONCE, name => this.lastOf(name));
    // Another process may have collected it.
    const noted = new Set(names);
    for (const name of this.#superseded) if (!noted.has(name)) this.#superseded.delete(name);
    const since = this.#clock.now() - GIVEN_MS;
    for (const [name, { at }] of this.#given) if (at < since) this.#given.delete(name);
    const given = [...this.#given].map(([name, { at }]) => [name, at] as const);
    return new Map([...given, ...names.map((name, index) => [name, times[index] ?? 0] as const)]);
  }

  async forget(snapshot: string): Promise<void> {
    this.#superseded.delete(snapshot);
    this.#given.delete(snapshot);
    await rm(join(this.#dir, snapshot), { force: true });
  }

  /** A disk that takes nothing any more costs only the order in which snapshots go. */
  async #touch(snapshot: string): Promise<void> {
    const path = join(this.#dir, snapshot);
    const now = this.#clock.now() / 1_000;
    try {
      await utimes(path, now, now);
    } catch (error) {
      if (isAbsent(error)) await this.#note(path, now).catch(() => undefined);
    }
  }

  async #note(path: string, now: number): Promise<void> {
    await writeFile(path, '');
    await utimes(path, now, now);
  }
}
