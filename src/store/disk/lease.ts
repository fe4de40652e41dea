import { randomUUID } from 'node:crypto';
import { mkdir, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import type { Clock } from '../../domain/clock.ts';
import { unlessRunning } from '../../policy/abort.ts';
import { ifAbsent, readIfThere } from './durable.ts';
import { ageOf, beat, forgetClock, forgetOthers, readClock } from './heartbeats.ts';
import { isRunning, ownIdentity } from './process-identity.ts';

const HEARTBEAT_MS = 10_000;
/** Six missed heartbeats: a process that is no longer there, or does nothing any more. */
const STALE_MS = 60_000;
const OWNER_FILE = 'owner.json';

const Owner = z.object({
  pid: z.number().int().positive(),
  space: z.string(),
  started: z.string().optional(),
  /** Milliseconds since 1970. */
  since: z.number().optional(),
  /** The id of the scope that it shows to readers. */
  scope: z.string().optional(),
});

/** Of this process. */
const taken = new Set<string>();

/** This process' own directory for work in progress; its heartbeat says that the work is alive. */
export class Lease {
  readonly dir: string;
  readonly #text: string;
  readonly #timer: NodeJS.Timeout;

  private constructor(dir: string, text: string) {
    this.dir = dir;
    this.#text = text;
    this.#timer = setInterval(
      unlessRunning(() => this.#beat()),
      HEARTBEAT_MS,
    ).unref();
  }

  /** @param scope the id of the scope that the process shows to readers; absent where it shows none */
  static async take(tmp: string, scope?: string): Promise<Lease> {
    const dir = join(tmp, `${process.pid}-${randomUUID()}`);
    const owner: z.infer<typeof Owner> = { ...(await ownIdentity()), since: Date.now(), scope };
    const text = JSON.stringify(owner);
    taken.add(dir);
    try {
      await sign(dir, text);
    } catch (error) {
      taken.delete(dir);
      throw error;
    }
    return new Lease(dir, text);
  }

  /** Makes it again where somebody removed it. */
  async ensure(): Promise<void> {
    await stat(join(this.dir, OWNER_FILE)).catch(() => sign(this.dir, this.#text));
  }

  async release(): Promise<void> {
    clearInterval(this.#timer);
    taken.delete(this.dir);
    forgetClock(dirname(this.dir));
    // Somebody may still be writing there, who was not waited for.
    await rm(this.dir, { recursive: true, force: true, maxRetries: 3 });
  }

  async #beat(): Promise<void> {
    // Others take a process that was stopped for longer than the heartbeat allows for dead.
    await beat(join(this.dir, OWNER_FILE), this.#text).catch(() => this.ensure().catch(() => undefined));
  }
}

async function sign(dir: string, text: string): Promise<void> {
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const file = join(dir, OWNER_FILE);
  await writeFile(file, text);
  await readClock(file);
}

/**
 * Removes what dead processes left in `tmp`; returns how many leases that were.
 * @param rescue takes out of a directory what is worth keeping
 */
export async function sweepDeadLeases(
  tmp: string,
  clock: Clock,
  rescue: (dir: string) => Promise<void> = async () => undefined,
): Promise<number> {
  const dirs = await leasesIn(tmp);
  let swept = 0;
  for (const dir of dirs) {
    const { runs, isBeating } = await lookAt(dir, clock);
    // One that was stopped goes on where it was, on its own host.
    if (runs ?? isBeating) continue;
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
  /** Absent where it shows no scope to readers, or is of another release. */
  readonly scope: string | undefined;
}

/** Of the processes that work on the directory, the one that came first before all others. One that was stopped does not work. */
export async function liveLeases(tmp: string, clock: Clock): Promise<readonly LiveLease[]> {
  const dirs = await leasesIn(tmp);
  forgetOthers(tmp, dirs);
  const leases = await Promise.all(
    dirs.map(async dir => {
      const { owner, runs, isBeating } = await lookAt(dir, clock);
      // One that is being signed right now is the youngest, whoever it is.
      if (owner?.since === undefined || runs === false || !isBeating) return [];
      return [{ dir, pid: owner.pid, since: owner.since, scope: owner.scope }];
    }),
  );
  return leases.flat().toSorted((a, b) => a.since - b.since || (a.dir < b.dir ? -1 : 1));
}

async function leasesIn(tmp: string): Promise<readonly string[]> {
  return (await readdir(tmp)).map(name => join(tmp, name));
}

interface Looked {
  readonly owner: z.infer<typeof Owner> | null;
  /** Null where it cannot be said from here. */
  readonly runs: boolean | null;
  readonly isBeating: boolean;
}

async function lookAt(dir: string, clock: Clock): Promise<Looked> {
  const file = join(dir, OWNER_FILE);
  const owner = await ownerOf(file);
  if (taken.has(dir)) return { owner, runs: true, isBeating: true };
  const runs = owner === null ? null : await isRunning(owner);
  return { owner, runs, isBeating: await hasHeartbeat(dir, file, clock) };
}

/** A disk that fails to say when the last heartbeat was does not say that there is none. */
async function hasHeartbeat(dir: string, file: string, clock: Clock): Promise<boolean> {
  try {
    const found = (await ifAbsent(null, stat(file))) ?? (await ifAbsent(null, stat(dir)));
    return found !== null && ageOf(dir, found.mtimeMs, clock) <= STALE_MS;
  } catch {
    return true;
  }
}

async function ownerOf(file: string): Promise<z.infer<typeof Owner> | null> {
  try {
    return Owner.parse(JSON.parse((await readIfThere(file)) ?? ''));
  } catch {
    return null;
  }
}
