import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { mapBounded } from '../policy/bounded.ts';
import { ifAbsent, readIfThere } from './durable.ts';
import type { Layout } from './layout.ts';
import { parseRef, type Ref } from './ref-record.ts';

const READS_AT_ONCE = 16;

export interface FoundRecord {
  readonly path: string;
  /** Null where the record is damaged. */
  readonly found: { readonly ref: Ref; readonly scopeId: string } | null;
}

/** The refs' records of all scopes, as they are on the disk. */
export async function readRecords(layout: Layout): Promise<readonly FoundRecord[]> {
  const bases = [layout.refs, ...(await childrenOf(layout.scopes))];
  const paths = (await mapBounded(bases, READS_AT_ONCE, filesBelow)).flat();
  return await mapBounded(paths, READS_AT_ONCE, async path => ({ path, found: await readRecord(path) }));
}

/** Two levels down, where records and links are. */
export async function filesBelow(base: string): Promise<readonly string[]> {
  return (await mapBounded(await childrenOf(base), READS_AT_ONCE, childrenOf)).flat();
}

async function childrenOf(dir: string): Promise<readonly string[]> {
  return (await ifAbsent([], readdir(dir))).map(name => join(dir, name));
}

async function readRecord(path: string): Promise<FoundRecord['found']> {
  // Anything else in a record's place is in the way.
  const isFile = (await ifAbsent(null, stat(path)))?.isFile() ?? false;
  const text = isFile ? await readIfThere(path) : null;
  const parsed = text === null ? null : parseRef(text);
  return parsed !== null && /^[0-9a-f]{32}$/.test(parsed.scopeId) ? parsed : null;
}
