import { readdir, stat } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { wallTime } from '../../domain/clock.ts';
import { mapBounded } from '../../policy/bounded.ts';
import { isSliceOver, nextSlice } from '../../policy/slices.ts';
import { ifAbsent } from '../disk/durable.ts';
import type { Layout } from '../disk/layout.ts';
import { bytesInWork } from '../intake/partials.ts';
import { readManifest } from '../records/manifest-file.ts';
import { readRecords } from '../records/records.ts';
import type { Ref } from '../records/ref-record.ts';
import type { Usage } from '../records/usage.ts';
import type { BlobItem, Inventory, RefItem, SnapshotItem } from './content.ts';
import { readSpares } from './spares.ts';

/** A few of the threads that the disk has: whoever waits for a file meanwhile does not wait for this. */
const READS_AT_ONCE = 4;
/** Of most file systems. */
const BLOCK_BYTES = 4_096;

/** What a process knows beyond the disk. */
export interface Knowledge {
  /** Where it works itself: that counts as what it has reserved. */
  readonly tmp: string;
  readonly usage: Usage;
  /** Refs as it keeps them in memory, which may not be saved. */
  readonly refs: () => readonly Ref[];
  /** Whether the ref may be forgotten where nothing else gives room. */
  readonly isExpendable: (ref: Ref, scopeId: string) => boolean;
}

interface ManifestItem {
  readonly name: string;
  readonly snapshot: string | null;
  readonly blobs: readonly BlobItem[];
  readonly changedAt: number;
  /** Of the record itself. */
  readonly bytes: number;
}

/** What the cache holds. It changes meanwhile: whoever removes anything looks again. */
export async function takeInventory(layout: Layout, knowledge: Knowledge): Promise<Inventory> {
  const blobs = await readBlobs(layout);
  const bySha256 = new Map<string, BlobItem>();
  for (const blob of blobs) {
    bySha256.set(blob.sha256, blob);
    if (isSliceOver()) await nextSlice();
  }
  const manifests = await readManifests(layout, bySha256);
  const bySnapshot = new Map(manifests.map(item => [item.snapshot, item]));
  const usedAt = await knowledge.usage.all();
  const ids = await namesIn(layout.snapshots);
  const snapshots = await mapBounded(ids, READS_AT_ONCE, async (id): Promise<SnapshotItem> => {
    await nextSlice();
    const manifest = bySnapshot.get(id);
    const builtAt = manifest?.changedAt ?? (await changedAt(layout.snapshot(id)));
    return {
      id,
      manifest: manifest?.name ?? null,
      blobs: manifest?.blobs ?? [],
      lastUsedAt: Math.max(builtAt, usedAt.get(id) ?? 0),
      overheadBytes: overheadOf(manifest?.bytes ?? 0),
      isSuperseded: knowledge.usage.isSuperseded(id),
    };
  });
  const there = new Set(ids);
  const isGone = (id: string | null) => id === null || !there.has(id);
  const orphans = [
    ...manifests
      .filter(({ snapshot }) => isGone(snapshot))
      .map(item => ({ path: join(layout.manifests, item.name), blobs: item.blobs, changedAt: null })),
    ...[...usedAt]
      .filter(([id]) => isGone(id))
      .map(([name, at]) => ({ path: join(layout.used, name), blobs: [], changedAt: at })),
  ].map(item => ({ ...item, path: relative(layout.root, item.path) }));
  return {
    snapshots,
    blobs,
    refs: await readRefs(layout, knowledge),
    orphans,
    spares: await readSpares(layout),
    underWayBytes: await bytesOfOthers(layout, knowledge.tmp),
    stateBytes: BLOCK_BYTES * (await namesIn(layout.jobs)).concat(await namesIn(layout.answers)).length,
  };
}

/** A directory takes about as much as its part of the record, and both take whole blocks. */
function overheadOf(manifestBytes: number): number {
  return BLOCK_BYTES * (1 + 2 * Math.ceil(manifestBytes / BLOCK_BYTES));
}

async function bytesOfOthers({ tmp }: Layout, own: string): Promise<number> {
  const dirs = (await namesIn(tmp)).map(name => join(tmp, name)).filter(dir => dir !== own);
  const bytes = await mapBounded(dirs, READS_AT_ONCE, bytesInWork);
  return bytes.reduce((sum, each) => sum + each, 0);
}

/** On the disk, of all scopes and processes, and in memory. */
export async function readRefs(layout: Layout, knowledge: Knowledge): Promise<readonly RefItem[]> {
  const onDisk = (await readRecords(layout)).flatMap(({ path, found }): readonly RefItem[] => {
    if (found === null) return [];
    const isExpendable = knowledge.isExpendable(found.ref, found.scopeId);
    return [refItem(relative(layout.root, path), found.ref, found.scopeId, isExpendable)];
  });
  const saved = new Set(onDisk.map(({ current }) => current));
  const unsaved = knowledge.refs().filter(({ published }) => !saved.has(published?.snapshot ?? null));
  return [...onDisk, ...unsaved.map(ref => refItem('', ref, '', false))];
}

/** Times of files are of the wall clock. */
function wallOf(at: number | null): number | null {
  return at === null ? null : wallTime(at);
}

function refItem(path: string, ref: Ref, scopeId: string, isExpendable: boolean): RefItem {
  const { uri, published, previous, confirmedAt } = ref;
  const notedAt = wallOf(ref.resolved?.at ?? null) ?? 0;
  const current = published?.snapshot ?? null;
  const at = wallOf(confirmedAt);
  return { uri, scopeId, path, current, previous, confirmedAt: at, notedAt, isExpendable };
}

async function readBlobs(layout: Layout): Promise<readonly BlobItem[]> {
  const shards = await namesIn(layout.blobs);
  const names = await mapBounded(shards, READS_AT_ONCE, shard => namesIn(join(layout.blobs, shard)));
  const blobs = await mapBounded(names.flat(), READS_AT_ONCE, sha256 => statBlob(layout, sha256));
  return blobs.flatMap(blob => blob ?? []);
}

export async function statBlob(layout: Layout, sha256: string): Promise<BlobItem | null> {
  const stats = await ifAbsent(null, stat(layout.blob(sha256)));
  if (stats?.isFile() !== true) return null;
  const { size, nlink, mtimeMs, ctimeMs } = stats;
  return { sha256, size, links: nlink - 1, changedAt: Math.max(mtimeMs, ctimeMs) };
}

async function readManifests(
  layout: Layout,
  bySha256: ReadonlyMap<string, BlobItem>,
): Promise<readonly ManifestItem[]> {
  const entries = await ifAbsent([], readdir(layout.manifests, { withFileTypes: true }));
  const names = entries.filter(entry => entry.isFile()).map(entry => entry.name);
  return await mapBounded(names, READS_AT_ONCE, async name => {
    const path = join(layout.manifests, name);
    const stats = await ifAbsent(null, stat(path));
    const stored = await readManifest(path);
    const blobs = new Set<BlobItem>();
    for (const { sha256 } of stored?.manifest.files ?? []) {
      const blob = bySha256.get(sha256);
      if (blob !== undefined) blobs.add(blob);
      if (isSliceOver()) await nextSlice();
    }
    const [changed, bytes] = [stats?.mtimeMs ?? 0, stats?.size ?? 0];
    return { name, snapshot: stored?.snapshot ?? null, blobs: [...blobs], changedAt: changed, bytes };
  });
}

/** When it was last built, found or superseded, as of now. */
export async function lastUsedAt(
  layout: Layout,
  usage: Usage,
  { id, manifest }: Pick<SnapshotItem, 'id' | 'manifest'>,
): Promise<number> {
  const record = manifest === null ? null : join(layout.manifests, manifest);
  const builtAt = record === null ? await changedAt(layout.snapshot(id)) : await writtenAt(record);
  return Math.max(builtAt, await usage.lastOf(id));
}

async function writtenAt(path: string): Promise<number> {
  return (await ifAbsent(null, stat(path)))?.mtimeMs ?? 0;
}

/** A rename shows, too. */
async function changedAt(path: string): Promise<number> {
  const stats = await ifAbsent(null, stat(path));
  return stats === null ? 0 : Math.max(stats.mtimeMs, stats.ctimeMs);
}

async function namesIn(dir: string): Promise<readonly string[]> {
  return await ifAbsent([], readdir(dir));
}
