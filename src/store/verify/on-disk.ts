import { opendir } from 'node:fs/promises';
import { join } from 'node:path';
import { formatModelUri } from '../../domain/model-uri.ts';
import { isAbsent } from '../disk/durable.ts';
import type { Layout } from '../disk/layout.ts';
import { type FetchedRoot, readManifest } from '../records/manifest-file.ts';
import { readRecords } from '../records/records.ts';
import type { Published } from '../records/ref-record.ts';

/** One record of `state/manifests`. */
export interface StoredRoot extends FetchedRoot {
  readonly path: string;
}

/** What the cache holds, one after the other, so that memory does not grow with it. */
export async function* rootsIn(layout: Layout): AsyncGenerator<StoredRoot> {
  for await (const path of filesOf(layout.manifests)) {
    const found = await readManifest(path);
    if (found !== null) yield { path, ...found };
  }
}

export async function* blobsIn(
  layout: Layout,
): AsyncGenerator<{ readonly path: string; readonly sha256: string }> {
  for await (const dir of filesOf(layout.blobs)) {
    for await (const path of filesOf(dir)) {
      const sha256 = path.slice(dir.length + 1);
      if (/^[0-9a-f]{64}$/.test(sha256)) yield { path, sha256 };
    }
  }
}

async function* filesOf(dir: string): AsyncGenerator<string> {
  const found = await opendir(dir).catch(nullIfAbsent);
  if (found === null) return;
  for await (const entry of found) yield join(dir, entry.name);
}

/** A record of a ref, of whatever scope, that publishes a snapshot. */
export interface StoredRef {
  readonly path: string;
  readonly uri: string;
  readonly published: Published;
}

export async function publishedIn(layout: Layout): Promise<readonly StoredRef[]> {
  return (await readRecords(layout)).flatMap(({ path, found }) => {
    const ref = found?.ref;
    return ref?.published ? [{ path, uri: formatModelUri(ref.uri), published: ref.published }] : [];
  });
}

function nullIfAbsent(error: unknown): null {
  if (isAbsent(error)) return null;
  throw error;
}
