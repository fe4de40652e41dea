import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { delay } from '../../policy/abort.ts';
import { isThere, readIfThere } from './durable.ts';
import type { LiveLease } from './lease.ts';

const FILE = 'demand.json';
/** How often the owner looks whether another process needs room. */
export const DEMAND_LOOK_MS = 1_000;
/** For an owner that is stopped, or of another release: a collection takes less, once it is looked at. */
const ANSWER_MS = 5_000;
const POLL_MS = 100;

const Demand = z.object({ bytes: z.number().nonnegative() });

/** What another process needs, until it is answered. */
interface Asked {
  readonly bytes: number;
  readonly answer: () => Promise<void>;
}

/**
 * Asks the owner for room, by a file in this process' own directory, which the owner takes away once it has collected.
 * @param bytes that this process will add, with what it has reserved
 */
export async function askOwner(tmp: string, bytes: number): Promise<void> {
  const path = join(tmp, FILE);
  try {
    await writeFile(path, JSON.stringify({ bytes }), { mode: 0o600 });
    for (let ms = 0; ms < ANSWER_MS && (await isThere(path)); ms += POLL_MS) await delay(POLL_MS);
  } finally {
    await rm(path, { force: true });
  }
}

/** What other processes need. */
export async function demandsIn(leases: readonly LiveLease[]): Promise<readonly Asked[]> {
  const asked = leases.map(async ({ dir }): Promise<readonly Asked[]> => {
    const path = join(dir, FILE);
    try {
      const { bytes } = Demand.parse(JSON.parse((await readIfThere(path)) ?? ''));
      return [{ bytes, answer: () => rm(path, { recursive: true, force: true }) }];
    } catch {
      return [];
    }
  });
  return (await Promise.all(asked)).flat();
}
