import { readdir, readFile, realpath } from 'node:fs/promises';
import { join, relative } from 'node:path';

const FILES = 1_000;
const FILE_BYTES = 10 * 1024;
const IN_FLIGHT = 50;

/** What file `path` of `version` holds: 10 KiB that name both. */
export function contentOf(version: string, path: string): Buffer {
  return Buffer.alloc(FILE_BYTES, `version ${version} of ${path}\n`);
}

export const PATHS: readonly string[] = [
  'MLmodel',
  ...Array.from({ length: FILES - 1 }, (_, n) => `data/${n % 10}/file-${n}.bin`),
];

export function filesOf(version: string): Readonly<Record<string, Buffer>> {
  return Object.fromEntries(PATHS.map(path => [path, contentOf(version, path)]));
}

/**
 * Reads a whole snapshot, as a model's loader would: the ref is resolved once.
 * @returns the one version that every file is of
 * @throws Error at the first file that is missing, of another version, or has other bytes
 */
export async function readWhole(ref: string): Promise<string> {
  const dir = await realpath(ref);
  const version = /^version (\S+) of/.exec(await readFile(join(dir, 'MLmodel'), 'latin1'))?.[1];
  if (version === undefined) throw new Error(`${dir}: MLmodel names no version`);
  for (let from = 0; from < PATHS.length; from += IN_FLIGHT) {
    await Promise.all(
      PATHS.slice(from, from + IN_FLIGHT).map(async path => {
        const found = await readFile(join(dir, path));
        if (found.equals(contentOf(version, path))) return;
        throw new Error(`${dir}/${path} is not of version ${version}: ${found.toString('latin1', 0, 60)}`);
      }),
    );
  }
  return version;
}

/** The paths of all files below a directory. */
export async function filesBelow(dir: string): Promise<readonly string[]> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true });
  return entries
    .filter(entry => !entry.isDirectory())
    .map(entry => relative(dir, join(entry.parentPath, entry.name)))
    .toSorted();
}
