import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { lstat, readdir } from 'node:fs/promises';
import { join, sep } from 'node:path';
import { pipeline } from 'node:stream/promises';

/** Files by their paths below the root, with sizes. */
export interface Tree {
  readonly files: ReadonlyMap<string, number>;
  /** Links, devices, empty directories and the like, of which no model consists. */
  readonly others: readonly string[];
}

/** Reads a directory to its leaves; `ignored` names entries at its top. */
export async function readTree(
  root: string,
  ignored: (name: string) => boolean = () => false,
): Promise<Tree> {
  const files = new Map<string, number>();
  const others: string[] = [];
  const visit = async (below: string): Promise<void> => {
    const entries = await readdir(join(root, below), { withFileTypes: true });
    if (entries.length === 0 && below !== '') others.push(below);
    for (const entry of entries) {
      if (below === '' && ignored(entry.name)) continue;
      const path = join(below, entry.name);
      if (entry.isDirectory()) await visit(path);
      else if (entry.isFile()) files.set(path, (await lstat(join(root, path))).size);
      else others.push(path);
    }
  };
  await visit('');
  return { files, others };
}

/**
 * The entries at the top of `dir`, if it holds nothing but entries of the snapshot's, each of them whole and with the same
 * content; else null.
 */
export async function sharedEntries(
  snapshot: string,
  dir: string,
  ignored: (name: string) => boolean,
): Promise<ReadonlySet<string> | null> {
  const [wanted, found] = [await readTree(snapshot), await readTree(dir, ignored)];
  if (found.others.length > 0) return null;
  for (const [path, size] of found.files) if (wanted.files.get(path) !== size) return null;
  const entries = new Set([...found.files.keys()].map(topOf));
  for (const path of wanted.files.keys()) if (entries.has(topOf(path)) && !found.files.has(path)) return null;
  for (const path of found.files.keys()) {
    if (!(await haveSameContent(join(snapshot, path), join(dir, path)))) return null;
  }
  return entries;
}

function topOf(path: string): string {
  return path.split(sep)[0] ?? path;
}

async function haveSameContent(a: string, b: string): Promise<boolean> {
  const [left, right] = [await lstat(a), await lstat(b)];
  if (left.dev === right.dev && left.ino === right.ino) return true;
  return (await sha256(a)) === (await sha256(b));
}

/** In lower-case hex. */
export async function sha256(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path), hash);
  return hash.digest('hex');
}
