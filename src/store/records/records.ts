import type { Dirent } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { mapBounded } from '../../policy/bounded.ts';
import { ifAbsent, readIfThere } from '../disk/durable.ts';
import type { Layout } from '../disk/layout.ts';
import { type ParsedRef, parseRef } from './ref-record.ts';

const READS_AT_ONCE = 16;

export interface FoundRecord {
  readonly path: string;
  /** Null where the record is damaged, or something else is in its place. */
  readonly found: ParsedRef | null;
}

/**
 * The refs' records of all scopes, as they are on the disk.
 * @param onUnreadable told of each that the disk does not give, which is left out then; without it the first of them is thrown
 */
export async function readRecords(
  layout: Layout,
  onUnreadable: (path: string, error: unknown) => void = (_path, error) => {
    throw error;
  },
): Promise<readonly FoundRecord[]> {
  const scopes = (await childrenOf(layout.scopes)).map(pathOf);
  const records = (await mapBounded([layout.refs, ...scopes], READS_AT_ONCE, entriesBelow)).flat();
  const read = await mapBounded(records, READS_AT_ONCE, async (entry): Promise<readonly FoundRecord[]> => {
    const path = pathOf(entry);
    try {
      return [{ path, found: entry.isFile() ? await readRecord(path) : null }];
    } catch (error) {
      onUnreadable(path, error);
      return [];
    }
  });
  return read.flat();
}

/** Whatever is two levels down, where records and links are. */
export async function pathsBelow(base: string): Promise<readonly string[]> {
  return (await entriesBelow(base)).map(pathOf);
}

async function entriesBelow(base: string): Promise<readonly Dirent[]> {
  const names = (await childrenOf(base)).map(pathOf);
  return (await mapBounded(names, READS_AT_ONCE, childrenOf)).flat();
}

async function childrenOf(dir: string): Promise<readonly Dirent[]> {
  return await ifAbsent([], readdir(dir, { withFileTypes: true }));
}

function pathOf({ parentPath, name }: Dirent): string {
  return `${parentPath}/${name}`;
}

/** Null where it is damaged, or gone. */
export async function readRecord(path: string): Promise<FoundRecord['found']> {
  const text = await readIfThere(path);
  const parsed = text === null ? null : parseRef(text);
  return parsed !== null && /^[0-9a-f]{32}$/.test(parsed.scopeId) ? parsed : null;
}
