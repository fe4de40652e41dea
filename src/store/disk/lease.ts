import { randomUUID } from 'node:crypto';
import { mkdir, readdir, readlink, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { errnoOf } from '../../domain/errors.ts';
import { unlessRunning } from '../../policy/abort.ts';
import { readIfThere } from './durable.ts';

const HEARTBEAT_MS = 10_000;
/** Six missed heartbeats: a process on another host, or in another container, that is no longer there. */
const STALE_MS = 60_000;
const OWNER_FILE = 'owner.json';

const Owner = z.object({
  pid: z.number().int().positive(),
  space: z.string(),
  /** Milliseconds since 1970. */
  since: z.number().optional(),
});

/** Of this process. */
const taken = new Set<string>();

/** This process' own directory for work in progress; its heartbeat says that the work is alive. */
export class Lease {
  readonly dir: string;
  readonly #since: number;
  readonly #timer: NodeJS.Timeout;

  private constructor(dir: string, since: number) {
    this.dir = dir;
    this.#since = since;
    this.#timer = setInterval(
      unlessRunning(() => this.#beat()),
      HEARTBEAT_MS,
    ).unref();
  }

  static async take(tmp: string): Promise<Lease> {
    const dir = join(tmp, `${process.pid}-${randomUUID()}`);
    const since = Date.now();
    taken.add(dir);
    await sign(dir, since);
    return new Lease(dir, since);
  }

  /** Makes it again where somebody removed it. */
  async ensure(): Promise<void> {
    await stat(join(this.dir, OWNER_FILE)).catch(() => sign(this.dir, this.#since));
  }

  async release(): Promise<void> {
    clearInterval(this.#timer);
    taken.delete(this.dir);
    // Somebody may still be writing there, who was not waited for.
    await rm(this.dir, { recursive: true, force: true, maxRetries: 3 });
  }

  async #beat(): Promise<void> {
    const now = new Date();
    // Another host takes a process that was stopped for longer than the heartbeat allows for dead.
    await utimes(join(this.dir, OWNER_FILE), now, now).catch(() => this.ensure().catch(() => undefined));
  }
}

async function sign(dir: string, since: number): Promise<void> {
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const owner: z.infer<typeof Owner> = { pid: process.pid, space: await pidSpace(), since };
  await writeFile(join(dir, OWNER_FILE), JSON.stringify(owner));
}

/** Where a process id means something: this host, and on Linux this container. */
export async function pidSpace(): Promise<string> {
  return `${hostname()} ${await readlink('/proc/self/ns/pid').catch(() => '')}`;
}

/**
 * Removes what dead processes left in `tmp`; returns how many leases that were.
 * @param rescue takes out of a directory what is worth keeping
 */
export async function sweepDeadLeases(
  tmp: string,
  now: number,
  rescue: (dir: string) => Promise<void> = async () => undefined,
): Promise<number> {
  let swept = 0;
  for (const name of await readdir(tmp)) {
    const dir = join(tmp, name);
    if (await isAlive(dir, now)) continue;
    await rescue(dir);
    await rm(dir, { recursive: true, force: true });
    swept++;
  }
  return swept;
}

export interface LiveLease {
  readonly dir: string;
  readonly pid: number;
  /** Milliseconds since 1970 by the clock of its process. */
  readonly since: number;
}

/** Of the processes that work on the directory, the one that came first before all others. */
export async function liveLeases(tmp: string, now: number): Promise<readonly LiveLease[]> {
  const leases = await Promise.all(
    (await readdir(tmp)).map(async name => {
      const dir = join(tmp, name);
      const owner = (await isAlive(dir, now)) ? await ownerOf(join(dir, OWNER_FILE)) : null;
      // One that is being signed right now is the youngest, whoever it is.
      return owner?.since === undefined ? [] : [{ dir, pid: owner.pid, since: owner.since }];
    }),
  );
  return leases.flat().toSorted((a, b) => a.since - b.since || (a.dir < b.dir ? -1 : 1));
}

async function isAlive(dir: string, now: number): Promise<boolean> {
  if (taken.has(dir)) return true;
  const file = join(dir, OWNER_FILE);
  const owner = await ownerOf(file);
  // A stopped process has no heartbeat, but it is there; one that had our id before us is not.
  if (owner?.space === (await pidSpace())) return owner.pid !== process.pid && isRunning(owner.pid);
  const beat = await stat(file).catch(() => stat(dir).catch(() => null));
  return beat !== null && now - beat.mtimeMs <= STALE_MS;
}

async function ownerOf(file: string): Promise<z.infer<typeof Owner> | null> {
  try {
    return Owner.parse(JSON.parse((await readIfThere(file)) ?? ''));
  } catch {
    return null;
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return errnoOf(error) === 'EPERM';
  }
}
