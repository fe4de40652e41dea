import { readdir, readlink, rename, rm } from 'node:fs/promises';
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

/**
 * Reads the refs' records from the disk, puts those of another registry aside and those of this one back, and makes
 * every link follow its record.
 */
export async function recoverRefs(
  layout: Layout,
  own: Scope,
  snapshots: Snapshots,
  tmp: string,
): Promise<Recovered> {
  const dropped: string[] = [];
  const refs: { scope: Scope; ref: Ref }[] = [];
  for await (const path of recordsIn(layout)) {
    const found = await readRecord(path, own);
    if (found === null) {
      await rm(path, { force: true });
      dropped.push(relative(layout.root, path));
      continue;
    }
    await putInPlace(layout, found);
    const ref = await withExistingSnapshot(found.ref, snapshots);
    if (ref !== found.ref) dropped.push(relative(layout.root, path));
    refs.push({ scope: found.scope, ref });
  }
  await followRecords(
    layout,
    refs.filter(({ scope }) => scope.own).map(({ ref }) => ref),
    tmp,
  );
  return { refs, dropped };
}

async function* recordsIn(layout: Layout): AsyncGenerator<string> {
  const bases = [layout.refs, ...(await childrenOf(layout.scopes))];
  for (const base of bases) {
    for (const model of await childrenOf(base)) {
      for (const record of await childrenOf(model)) yield record;
    }
  }
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
  const text = await readIfThere(path);
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

async function followRecords(layout: Layout, refs: readonly Ref[], tmp: string): Promise<void> {
  const wanted = new Map<string, string>();
  for (const ref of refs) {
    if (ref.published !== null)
      wanted.set(layout.link(refKey(ref.uri)), layout.snapshot(ref.published.snapshot));
  }
  for (const model of await childrenOf(layout.models)) {
    for (const link of await childrenOf(model)) {
      if (!wanted.has(link)) await rm(link, { force: true, recursive: true });
    }
  }
  for (const [link, snapshot] of wanted) {
    if ((await readlink(link).catch(() => null)) === relative(dirname(link), snapshot)) continue;
    await makeDirectory(dirname(link), 0o755);
    await replaceLink(link, snapshot, tmp);
  }
}
