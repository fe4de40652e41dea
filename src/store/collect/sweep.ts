import { randomUUID } from 'node:crypto';
import { link, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf } from '../../domain/errors.ts';
import { mapBounded } from '../../policy/bounded.ts';
import { isAbsent, isThere } from '../disk/durable.ts';
import type { Layout } from '../disk/layout.ts';
import { keptBy } from './asked.ts';
import { IN_FLIGHT_GRACE_MS } from './collect-plan.ts';
import type { BlobItem, SnapshotItem, SpareItem } from './content.ts';
import { type Knowledge, lastUsedAt, readRefs, statBlob } from './inventory.ts';
import type { CollectPlan, Removal } from './plan.ts';

const REMOVALS_AT_ONCE = 4;
const ASIDE = 'aside-';
/** Between two looks at what the refs point to. */
const BATCH = 500;

export interface Swept {
  readonly snapshots: number;
  readonly freedBytes: number;
}

export interface SweepOptions {
  readonly layout: Layout;
  /** Of this process: what a crash leaves there is litter. */
  readonly tmp: string;
  readonly knowledge: Knowledge;
  /** Milliseconds since 1970. */
  readonly now: number;
  /** Forgets a ref, with its record and link. */
  readonly forget: (removal: Removal & { readonly kind: 'ref' }) => Promise<void>;
}

/**
 * Carries a plan out. What vanishes does so by one rename, out of everybody's sight, and comes back by another one where
 * somebody published it in the meantime: whoever publishes writes the record first and looks for the snapshot after
 * that, and here it is taken away first and the records are looked at after that, so that one of the two sees the other.
 * A snapshot's record goes last: after a crash it says which contents nobody has any more.
 */
export async function sweep(plan: CollectPlan, options: SweepOptions): Promise<Swept> {
  const { removals } = plan;
  for (const removal of removals.filter(isRef)) await options.forget(removal);
  const snapshots = removals.filter(isSnapshot);
  const swept = { snapshots: 0, freedBytes: 0 };
  for (let from = 0; from < snapshots.length; from += BATCH) {
    const { count, freed } = await sweepSnapshots(snapshots.slice(from, from + BATCH), options);
    swept.snapshots += count;
    swept.freedBytes += freed;
  }
  for (const removal of removals) {
    if (removal.kind === 'blob') swept.freedBytes += await removeBlob(removal.item, options, 'stale');
    if (removal.kind === 'spare') swept.freedBytes += await removeSpare(removal.item, options);
    if (removal.kind === 'orphan') swept.freedBytes += await removeOrphan(removal, options);
  }
  return swept;
}

/** What this process could not remove the last time, though it was out of sight already. */
export async function removeLeftovers(tmp: string): Promise<void> {
  for (const name of await readdir(tmp)) {
    if (name.startsWith(ASIDE)) await rm(join(tmp, name), { recursive: true, force: true });
  }
}

function asideName(tmp: string): string {
  return join(tmp, `${ASIDE}${randomUUID()}`);
}

type SnapshotRemoval = Removal & { readonly kind: 'snapshot' };

interface Aside extends SnapshotRemoval {
  readonly dir: string;
}

async function sweepSnapshots(
  removals: readonly SnapshotRemoval[],
  options: SweepOptions,
): Promise<{ readonly count: number; readonly freed: number }> {
  const failures: unknown[] = [];
  const note = (error: unknown) => void failures.push(error);
  const aside: Aside[] = [];
  const take = async (removal: SnapshotRemoval) => {
    const one = await takeAside(removal, options);
    if (one !== null) aside.push(one);
  };
  await mapBounded(removals, REMOVALS_AT_ONCE, take).catch(note);
  // Whatever failed, what was taken is removed or put back: out of sight it would be lost to whoever published it.
  const kept = await readKept(options).catch(note);
  const swept = { count: 0, freed: 0 };
  await mapBounded(aside, REMOVALS_AT_ONCE, async one => {
    try {
      if (kept === undefined || kept.has(one.item.id)) return await putBack(one, options.layout);
      const freed = await removeAside(one, options);
      swept.freed += freed;
      swept.count += 1;
    } catch (error) {
      note(error);
    }
  });
  if (failures.length > 0) throw failures[0];
  return swept;
}

async function readKept({ layout, knowledge }: SweepOptions): Promise<ReadonlySet<string>> {
  return new Set((await readRefs(layout, knowledge)).flatMap(keptBy));
}

/** Null where it was used since the plan was made, or is gone. */
async function takeAside(
  removal: SnapshotRemoval,
  { layout, tmp, knowledge }: SweepOptions,
): Promise<Aside | null> {
  const aside = { ...removal, dir: asideName(tmp) };
  if ((await lastUsedAt(layout, knowledge.usage, removal.item)) > removal.item.lastUsedAt) return null;
  const isTaken = await rename(layout.snapshot(removal.item.id), aside.dir).then(() => true, ifThere);
  return isTaken === true ? aside : null;
}

async function putBack({ item, dir }: Aside, layout: Layout): Promise<void> {
  // Whoever missed it may have built it again.
  await rename(dir, layout.snapshot(item.id)).catch(unlessTaken);
  await rm(dir, { recursive: true, force: true });
}

/** The snapshot, and what nobody else has of it; returns what that frees, in bytes. */
async function removeAside({ item, blobs, dir }: Aside, options: SweepOptions): Promise<number> {
  const { layout, knowledge } = options;
  await rm(dir, { recursive: true, force: true });
  let freed = copiedBytes(item);
  for (const blob of blobs) freed += await removeBlob(blob, options, blob.links === 0 ? 'stale' : 'any');
  // Whoever missed it may have built it again, with a record of its own.
  if (item.manifest !== null && !(await isThere(layout.snapshot(item.id))))
    await rm(join(layout.manifests, item.manifest), { force: true });
  await knowledge.usage.forget(item.id);
  return freed;
}

/** Whoever takes a partial up does so by a rename, too, so that only one of the two gets it. */
async function removeSpare({ path, bytes }: SpareItem, { layout, tmp }: SweepOptions): Promise<number> {
  const aside = asideName(tmp);
  if ((await rename(join(layout.root, path), aside).then(() => true, ifThere)) !== true) return 0;
  await rm(aside, { recursive: true, force: true });
  return bytes;
}

/** What a collection that was cut short did not come to; returns what that frees, in bytes. */
async function removeOrphan(
  { path, blobs }: Removal & { readonly kind: 'orphan' },
  options: SweepOptions,
): Promise<number> {
  let freed = 0;
  for (const blob of blobs) freed += await removeBlob(blob, options, 'any');
  await rm(join(options.layout.root, path), { force: true });
  return freed;
}

/** Where there are no hard links a snapshot holds copies. */
function copiedBytes({ blobs }: SnapshotItem): number {
  return blobs.reduce((sum, { links, size }) => sum + (links === 0 ? size : 0), 0);
}

/**
 * Removes a content that no snapshot has; returns what that frees, in bytes.
 * @param age `stale`: only where nobody has touched it for a while. Without hard links nothing else shows who wants it.
 */
async function removeBlob(
  { sha256 }: BlobItem,
  { layout, tmp, now }: SweepOptions,
  age: 'stale' | 'any',
): Promise<number> {
  const found = await statBlob(layout, sha256);
  if (found === null || found.links > 0) return 0;
  if (age === 'stale' && found.changedAt > now - IN_FLIGHT_GRACE_MS) return 0;
  const path = layout.blob(sha256);
  const aside = asideName(tmp);
  if ((await rename(path, aside).then(() => true, ifThere)) !== true) return 0;
  // A snapshot that was being built may have linked to it just before.
  const isWanted = (await stat(aside)).nlink > 1;
  if (isWanted) await link(aside, path).catch(unlessTaken);
  await rm(aside, { force: true });
  return isWanted ? 0 : found.size;
}

function isRef(removal: Removal): removal is Removal & { readonly kind: 'ref' } {
  return removal.kind === 'ref';
}

function isSnapshot(removal: Removal): removal is SnapshotRemoval {
  return removal.kind === 'snapshot';
}

function ifThere(error: unknown): void {
  if (!isAbsent(error)) throw error;
}

function unlessTaken(error: unknown): void {
  if (!['ENOTEMPTY', 'EEXIST'].includes(errnoOf(error))) throw error;
}
