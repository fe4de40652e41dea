import { chmod, lstat, mkdir, readFile, rename, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { systemClock } from '../../src/domain/clock.ts';
import type { Store } from '../../src/store/store.ts';
import { Inspector } from '../../src/store/verify/inspect.ts';
import { Pace } from '../../src/store/verify/pace.ts';
import { type Harm, Scrub, type Scrubbed } from '../../src/store/verify/scrub.ts';

type Damages = Readonly<Record<string, (path: string) => Promise<void>>>;

/** What can happen to a file, and so to the blob that it shares with others, by what the scrub says of it. */
export const OF_CONTENT: Damages = {
  'holds other bytes, whose sha256 is [0-9a-f]{64}$': flip,
  'has 3 bytes instead of 11$': path => truncate(path, 3),
  'has 20 bytes instead of 11$': extend,
};

/** What can happen to a name in a snapshot, while the blob stays as it was. */
export const OF_NAME: Damages = {
  'is missing$': path => rm(path),
  'is not a file$': async path => {
    await rm(path);
    await mkdir(path);
  },
  'holds other bytes, whose sha256 is [0-9a-f]{64}$': async path => {
    await unshare(path);
    await flip(path);
  },
};

/** One bit, as a disk does it: under the same name and inode. */
export async function flip(path: string): Promise<void> {
  const content = await readFile(path);
  content[0] = (content[0] ?? 0) ^ 1;
  await inPlace(path, () => writeFile(path, content));
}

async function extend(path: string): Promise<void> {
  const content = await readFile(path, 'utf8');
  await inPlace(path, () => writeFile(path, `${content} and more`));
}

/** Files of the cache are read-only, which stops only those who are not root. */
async function inPlace(path: string, work: () => Promise<void>): Promise<void> {
  const { mode } = await lstat(path);
  await chmod(path, 0o644);
  await work();
  await chmod(path, mode);
}

/** Makes the file one of its own, as where a file system knows no hard links. */
export async function unshare(path: string): Promise<void> {
  const copy = `${path}.copy`;
  await writeFile(copy, await readFile(path), { mode: 0o444 });
  await rename(copy, path);
}

/** One pass at full speed; what it finds is quarantined. */
export async function scrub(
  store: Store,
  signal: AbortSignal = new AbortController().signal,
  then: (harm: Harm) => Promise<unknown> = harm => store.quarantine(harm),
): Promise<Scrubbed & { readonly harms: readonly Harm[] }> {
  const harms: Harm[] = [];
  const onHarm = async (harm: Harm): Promise<void> => {
    harms.push(harm);
    await then(harm);
  };
  const inspector = new Inspector({ pace: new Pace(Number.POSITIVE_INFINITY), clock: systemClock, signal });
  return { ...(await new Scrub({ layout: store.layout, inspector, onHarm }).run()), harms };
}

export function fileIn(store: Store, snapshot: string, path: string): string {
  return join(store.layout.snapshot(snapshot), path);
}
