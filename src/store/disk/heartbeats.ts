import { open, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Clock } from '../../domain/clock.ts';

/** Of the disk's clock, when this process last read it. */
interface Reading {
  readonly diskMs: number;
  readonly atMs: number;
}

interface Seen {
  readonly beatMs: number;
  /** How old it was when it was first seen. */
  readonly ageMs: number;
  readonly seenAtMs: number;
}

/** By the directory that holds the leases. */
const readings = new Map<string, Reading>();
/** By lease. */
const seen = new Map<string, Seen>();

/** Writes a file over itself, so that the disk gives it its own time, whatever the clock of this host says; nobody sees it empty. */
export async function beat(file: string, text: string): Promise<void> {
  const handle = await open(file, 'r+');
  try {
    await handle.write(text, 0);
  } finally {
    await handle.close();
  }
  await readClock(file);
}

/** What the disk has for the time now, by a file that was written just now. */
export async function readClock(file: string): Promise<void> {
  const { mtimeMs } = await stat(file);
  readings.set(dirname(dirname(file)), { diskMs: mtimeMs, atMs: performance.now() });
}

/**
 * How old a heartbeat is: the disk's times are compared with each other when it is first seen, and from then on this process' own
 * monotonic time counts. So a clock that is set ends no lease, and one that was wrong keeps none.
 * @param beatMs by the disk's clock
 */
export function ageOf(dir: string, beatMs: number, clock: Clock): number {
  const known = seen.get(dir);
  const now = clock.monotonic();
  if (known?.beatMs === beatMs) return known.ageMs + now - known.seenAtMs;
  const reading = readings.get(dirname(dir));
  // Whoever cannot write there has only the clock of this host.
  const diskNow = reading === undefined ? clock.now() : reading.diskMs + performance.now() - reading.atMs;
  const ageMs = Math.max(0, diskNow - beatMs);
  seen.set(dir, { beatMs, ageMs, seenAtMs: now });
  return ageMs;
}

/** Forgets all but those that are there. */
export function forgetOthers(tmp: string, there: readonly string[]): void {
  for (const dir of seen.keys()) if (dirname(dir) === tmp && !there.includes(dir)) seen.delete(dir);
}

/** This process works there no more. */
export function forgetClock(tmp: string): void {
  readings.delete(tmp);
}
