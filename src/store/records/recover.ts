import { lstat, readlink, rename, rm } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { errnoOf } from '../../domain/errors.ts';
import { refKey } from '../../domain/model-uri.ts';
import type { Scope } from '../../domain/scope.ts';
import { mapBounded } from '../../policy/bounded.ts';
import { ifAbsent, isAbsent, makeDirectory, readIfThere, replaceLink } from '../disk/durable.ts';
import type { Layout } from '../disk/layout.ts';
import type { Snapshots } from '../intake/snapshots.ts';
import { type FoundRecord, pathsBelow, readRecords } from './records.ts';
import { parseRef, type Ref } from './ref-record.ts';

const LINKS_AT_ONCE = 16;

export interface Recovered {
  readonly refs: readonly { readonly scope: Scope; readonly ref: Ref; readonly isOfFuture: boolean }[];
  /** Records that were damaged or named a snapshot that is gone; what they named is fetched again. */
  readonly dropped: readonly string[];
  /** Records that the disk does not give: they stay, and are read when it does. */
  readonly unreadable: readonly Unreadable[];
}

export interface Unreadable {
  readonly path: string;
  readonly error: unknown;
}

interface Found {
  readonly path: string;
  readonly scope: Scope;
  readonly ref: Ref;
  readonly isOfFuture: boolean;
}

/** What recovery may do besides reading. */
export interface RecoveryRights {
  /** Where temporary files go; null where the disk takes none, and recovery only reads. */
  readonly tmp: string | null;
  /** Whether no other process works on the directory, perhaps for another registry. */
  readonly isAlone: boolean;
}

/**
 * Reads the refs' records from the disk, puts those of another registry aside and those of this one back, and makes
 * every link follow its record.
 */
export async function recoverRefs(
  layout: Layout,
  own: Scope,
  snapshots: Snapshots,
  { tmp, isAlone }: RecoveryRights,
): Promise<Recovered> {
  const dropped: string[] = [];
  const unreadable: Unreadable[] = [];
  const refs = new Map<string, Found>();
  const there = await snapshots.all();
  const records = await readRecords(layout, (path, error) => void unreadable.push({ path, error }));
  // All are read before any is moved.
  for (const { path, found: read } of records) {
    if (read === null) {
      if (tmp !== null) await rm(path, { force: true, recursive: true });
      dropped.push(relative(layout.root, path));
      continue;
    }
    const ref = await withExistingSnapshot(read.ref, there, snapshots);
    const found = { path, scope: scopeOfRecord(read, own), ref, isOfFuture: read.isOfFuture };
    if (found.ref !== read.ref) dropped.push(relative(layout.root, path));
    const key = layout.record(found.scope, refKey(read.ref.uri));
    refs.set(key, newerOf(found, refs.get(key)));
  }
  if (tmp !== null && isAlone)
    for (const found of refs.values()) await putInPlace(layout, found).catch(untilNextTime);
  if (tmp !== null && layout.fileSystem.symlinks) await followRecords(layout, own, snapshots, tmp, refs);
  return { refs: [...refs.values()], dropped, unreadable };
}

export function scopeOfRecord({ scopeId }: NonNullable<FoundRecord['found']>, own: Scope): Scope {
  return scopeId === own.id ? own : { id: scopeId, own: false };
}

/** What a disk does not do that is full or fails must not keep what it holds from being given. */
function untilNextTime(): void {}

/** While two processes show two registries in the same place, a ref may have been put aside and written anew. */
function newerOf(found: Found, other: Found | undefined): Found {
  if (other === undefined) return found;
  return (other.ref.confirmedAt ?? 0) > (found.ref.confirmedAt ?? 0) ? other : found;
}

/** The configured registry may be another than the last time. */
async function putInPlace(layout: Layout, { path, scope, ref }: Found): Promise<void> {
  const place = layout.record(scope, refKey(ref.uri));
  if (place === path) return;
  await makeDirectory(layout.records(scope), scope.own ? 0o755 : 0o700);
  await makeDirectory(dirname(place), 0o755);
  await rename(path, place);
}

async function withExistingSnapshot(
  ref: Ref,
  there: ReadonlySet<string>,
  snapshots: Snapshots,
): Promise<Ref> {
  const { published } = ref;
  if (published === null || there.has(published.snapshot) || (await snapshots.has(published.snapshot)))
    return ref;
  return { ...ref, published: null, confirmedAt: null };
}

async function followRecords(
  layout: Layout,
  own: Scope,
  snapshots: Snapshots,
  tmp: string,
  refs: ReadonlyMap<string, Found>,
): Promise<void> {
  const records = [...refs].filter(([, { scope }]) => scope.own).map(([path]) => path);
  const places = new Set(records.map(path => relative(layout.refs, path).replace(/\.json$/, '')));
  // A link without a record has one by now, or goes.
  for (const path of await pathsBelow(layout.models)) places.add(relative(layout.models, path));
  const follow = async (place: string): Promise<void> => {
    const link = join(layout.models, place);
    const record = join(layout.refs, `${place}.json`);
    const published = refs.get(record)?.ref.published ?? null;
    const known = published === null ? null : layout.snapshot(published.snapshot);
    // As it is nearly always; whoever publishes meanwhile makes it another, which is looked at closely.
    if (known !== null && (await isFollowing(link, () => Promise.resolve(known)))) return;
    const found = await readIfThere(record).then(text => parseRef(text ?? ''));
    // Another registry's, of a process that works here too.
    if (found !== null && found.scopeId !== own.id) return;
    const target = () => targetOf(layout, record, own, snapshots);
    while (!(await isFollowing(link, target))) await setLink(link, await target(), tmp);
  };
  await mapBounded([...places], LINKS_AT_ONCE, place => follow(place).catch(untilNextTime));
}

/**
 * Another process may be publishing meanwhile. It writes the record before it switches the link; so the link is read
 * first, and looked at again after it was set.
 */
async function isFollowing(link: string, target: () => Promise<string | null>): Promise<boolean> {
  const found = await readlink(link).catch(linkOf);
  const wanted = await target();
  return found === (wanted === null ? null : relative(dirname(link), wanted));
}

/** Nothing, or something else, which is in the way. */
function linkOf(error: unknown): string | null {
  if (isAbsent(error)) return null;
  if (errnoOf(error) === 'EINVAL') return '';
  throw error;
}

/** The snapshot that the record names, if it is there. */
async function targetOf(
  layout: Layout,
  record: string,
  own: Scope,
  snapshots: Snapshots,
): Promise<string | null> {
  const text = await readIfThere(record);
  const parsed = text === null ? null : parseRef(text);
  const published = parsed?.scopeId === own.id ? parsed.ref.published : null;
  const isThere = published !== null && (await snapshots.has(published.snapshot));
  return isThere ? layout.snapshot(published.snapshot) : null;
}

async function setLink(link: string, target: string | null, tmp: string): Promise<void> {
  const found = await ifAbsent(null, lstat(link));
  if (target === null || found?.isSymbolicLink() !== true) await rm(link, { force: true, recursive: true });
  if (target === null) return;
  await makeDirectory(dirname(link), 0o755);
  await replaceLink(link, target, tmp);
}
