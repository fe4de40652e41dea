import { type FileHandle, open } from 'node:fs/promises';
import { z } from 'zod';
import type { Manifest, ManifestFile } from '../../domain/manifest.ts';
import { isSliceOver, nextSlice, type Steps } from '../../policy/slices.ts';
import { ifAbsent } from '../disk/durable.ts';
import { isOther, READ_REGULAR } from '../disk/regular.ts';
import { SnapshotId } from './ref-record.ts';

/** A fetched artifact root: what it holds, and the snapshot made of it. */
export interface FetchedRoot {
  readonly manifest: Manifest;
  readonly snapshot: string;
}

/** A line of JSON, and then one for each file: `sha256 size path`. No path holds a line feed. */
const FORMAT = 2;
const PIECE_BYTES = 64 * 1024;
/** Of a record that is one JSON text, as builds before wrote it, and of a first line. Larger ones are fetched again. */
const MOST_JSON_CHARS = 8 * 1024 * 1024;
const LINE = /^([0-9a-f]{64}) (\d{1,16}) (.+)$/s;

const Head = z.object({
  format: z.literal(FORMAT),
  snapshot: SnapshotId,
  digest: z.string(),
  bytes: z.number(),
  files: z.number().int().nonnegative(),
});

const OneText = z.object({
  format: z.literal(1),
  snapshot: SnapshotId,
  digest: z.string(),
  bytes: z.number(),
  files: z.array(z.object({ path: z.string(), size: z.number(), sha256: z.string() })),
});

export function* textOf({ snapshot, manifest }: FetchedRoot): Steps<string> {
  const { digest, bytes, files } = manifest;
  const head: z.infer<typeof Head> = { format: FORMAT, snapshot, digest, bytes, files: files.length };
  let text = `${JSON.stringify(head)}\n`;
  for (const { sha256, size, path } of files) {
    text += `${sha256} ${size} ${path}\n`;
    yield;
  }
  return text;
}

/** A record as it is on the disk; null where there is none, or it is worth nothing. Everybody else has a turn meanwhile. */
export async function readManifest(path: string): Promise<FetchedRoot | null> {
  const handle = await opened(path);
  if (handle === null) return null;
  try {
    return await parse(linesOf(handle));
  } catch (error) {
    if (error instanceof Damaged || isOther(error)) return null;
    throw error;
  } finally {
    await handle.close();
  }
}

class Damaged extends Error {}

async function opened(path: string): Promise<FileHandle | null> {
  try {
    return await ifAbsent(null, open(path, READ_REGULAR));
  } catch (error) {
    if (isOther(error)) return null;
    throw error;
  }
}

async function parse(lines: AsyncIterator<string, unknown>): Promise<FetchedRoot> {
  const first = await lines.next();
  const head = jsonOf(first.done === true ? '' : first.value);
  const old = OneText.safeParse(head);
  if (old.success) {
    const { snapshot, digest, bytes, files } = old.data;
    return { snapshot, manifest: { digest, bytes, files } };
  }
  const { data } = Head.safeParse(head);
  if (data === undefined) throw new Damaged();
  const files: ManifestFile[] = [];
  for (let line = await lines.next(); line.done !== true; line = await lines.next()) {
    const [, sha256, size, path] = LINE.exec(line.value) ?? [];
    if (sha256 === undefined || path === undefined) throw new Damaged();
    files.push({ path, size: Number(size), sha256 });
    if (isSliceOver()) await nextSlice();
  }
  if (files.length !== data.files) throw new Damaged();
  return { snapshot: data.snapshot, manifest: { files, digest: data.digest, bytes: data.bytes } };
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new Damaged();
  }
}

/** The last one may lack its line feed. */
async function* linesOf(handle: FileHandle): AsyncGenerator<string, void, undefined> {
  const decoder = new TextDecoder();
  const buffer = Buffer.allocUnsafeSlow(PIECE_BYTES);
  let rest = '';
  for (;;) {
    const { bytesRead } = await handle.read(buffer, 0, PIECE_BYTES, null);
    if (bytesRead === 0) break;
    const lines = (rest + decoder.decode(buffer.subarray(0, bytesRead), { stream: true })).split('\n');
    rest = lines.pop() ?? '';
    if (rest.length > MOST_JSON_CHARS) throw new Damaged();
    yield* lines;
  }
  if (rest !== '') yield rest;
}
