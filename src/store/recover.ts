import { lstat, readdir, readlink, rename, rm, stat } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { refKey } from '../domain/model-uri.ts';
import type { Scope } from '../domain/scope.ts';
import { isAbsent, makeDirectory, readIfThere, replaceLink } from './durable.ts';
import type { Layout } from './layout.ts';
import { parseRef, type Ref } from './ref-record.ts';
import type { Snapshots } from './snapshots.ts';

export interface Recovered {
  readonly refs: readonly { readonly scope: Scope; readonly ref: Ref }[];
  /** Records that were damaged or named a snapshot that is gone; what they named is fetched again. */
  readonly dropped: readonly string[];
}

interface Found {
  readonly path: string;
  readonly scope: Scope;
  readonly ref: Ref;
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
  const refs: { scope: Scope; ref: Ref }[] = [];
  for (const path of await recordsIn(layout)) {
    const found = await readRecord(path, own);
    if (found === null) {
      if (tmp !== null) await rm(path, { force: true, recursive: true });
      dropped.push(relative(layout.root, path));
      continue;
    }
    if (tmp !== null && isAlone) await putInPlace(layout, found);
    const ref = await withExistingSnapshot(found.ref, snapshots);
    if (ref !== found.ref) dropped.push(relative(layout.root, path));
    refs.push({ scope: found.scope, ref });
  }
  if (tmp !== null) await followRecords(layout, own, snapshots, tmp);
  return { refs, dropped };
}

/** All at once, since some are moved on the way. */
export async function recordsIn(layout: Layout): Promise<readonly string[]> {
  const bases = [layout.refs, ...(await childrenOf(layout.scopes))];
  return (await Promise.all(bases.map(filesBelow))).flat();
}

async function filesBelow(base: string): Promise<readonly string[]> {
  return (await Promise.all((await childrenOf(base)).map(childrenOf))).flat();
}

async function childrenOf(dir: string): Promise<readonly string[]> {
  try {
    return (await readdir(dir)).map(name => join(dir, name));
  } catch (error) {
    if (isAbsent(error)) return [];
    throw error;
  }
}

async function readRecord(path: string, own: Scope): Promise<Found | null> {
  const text = (await stat(path)).isFile() ? await readIfThere(path) : null;
  const parsed = text === null ? null : parseRef(text);
  if (parsed === null || !/^[0-9a-f]{32}$/.test(parsed.scopeId)) return null;
  const scope = parsed.scopeId === own.id ? own : { id: parsed.scopeId, own: false };
  return { path, scope, ref: parsed.ref };
}

/** The configured registry may be another than the last time. */
async function putInPlace(layout: Layout, { path, scope, ref }: Found): Promise<void> {
  const place = layout.record(scope, refKey(ref.uri));
  if (place === path) return;
  await makeDirectory(layout.records(scope), scope.own ? 0o755 : 0o700);
  await makeDirectory(dirname(place), 0o755);
  await rename(path, place);
}

async function withExistingSnapshot(ref: Ref, snapshots: Snapshots): Promise<Ref> {
  if (ref.published === null || (await snapshots.has(ref.published.snapshot))) return ref;
  return { ...ref, published: null, confirmedAt: null };
}

async function followRecords(layout: Layout, own: Scope, snapshots: Snapshots, tmp: string): Promise<void> {
  const records = (await filesBelow(layout.refs)).map(path =>
    relative(layout.refs, path).replace(/\.json$/, ''),
  );
  const links = (await filesBelow(layout.models)).map(path => relative(layout.models, path));
  for (const place of new Set([...records, ...links])) {
    const link = join(layout.models, place);
    const record = join(layout.refs, `${place}.json`);
    const found = await readIfThere(record).then(text => parseRef(text ?? ''));
    // Another registry's, of a process that works here too.
    if (found !== null && found.scopeId !== own.id) continue;
    const target = () => targetOf(layout, record, own, snapshots);
    while (!(await isFollowing(link, target))) await setLink(link, await target(), tmp);
  }
}

/**
 * Another process may be publishing meanwhile. It writes the record before it switches the link; so the link is read
 * first, and looked at again after it was set.
 */
async function isFollowing(link: string, target: () => Promise<string | null>): Promise<boolean> {
  const found = await readlink(link).catch(nullIfNoLink);
  const wanted = await target();
  return found === (wanted === null ? null : relative(dirname(link), wanted));
}

/** Anything else in a link's place is in the way. */
function nullIfNoLink(error: unknown): string | null {
  return isAbsent(error) ? null : '';
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
  const isLink = await lstat(link).then(
    stats => stats.isSymbolicLink(),
    () => false,
  );
  if (target === null || !isLink) await rm(link, { force: true, recursive: true });
  if (target === null) return;
  await makeDirectory(dirname(link), 0o755);
  await replaceLink(link, target, tmp);
}
