import { readdir, readFile, realpath } from 'node:fs/promises';
import { join, relative } from 'node:path';

const IN_FLIGHT = 50;

/** A model's size: how many files of how many bytes. */
export interface Shape {
  readonly files: number;
  readonly bytes: number;
}

export const THOUSAND: Shape = { files: 1_000, bytes: 10 * 1024 };

/** What file `path` of `version` holds: both names and the shape, over and over. */
export function contentOf(version: string, path: string, { files, bytes }: Shape = THOUSAND): Buffer {
  return Buffer.alloc(bytes, `version ${version} with ${files} files of ${bytes} bytes: ${path}\n`);
}

export function pathsOf({ files }: Shape): readonly string[] {
  return ['MLmodel', ...Array.from({ length: files - 1 }, (_, n) => `data/${n % 10}/file-${n}.bin`)];
}

export function filesOf(version: string, shape: Shape): Readonly<Record<string, Buffer>> {
  return Object.fromEntries(pathsOf(shape).map(path => [path, contentOf(version, path, shape)]));
}

export interface Whole {
  readonly version: string;
  readonly shape: Shape;
}

/**
 * Reads a whole snapshot, as a model's loader would: the ref is resolved once.
 * @returns the one version that every file is of
 * @throws Error at the first file that is missing, of another version, or has other bytes
 */
export async function readWhole(ref: string): Promise<string> {
  return (await readSnapshot(await realpath(ref))).version;
}

/** As `readWhole`, of a snapshot's own directory, with the shape too. */
export async function readSnapshot(dir: string): Promise<Whole> {
  const whole = parse(await readFile(join(dir, 'MLmodel'), 'latin1'));
  if (whole === null) throw new Error(`${dir}: MLmodel names no version`);
  const paths = pathsOf(whole.shape);
  for (let from = 0; from < paths.length; from += IN_FLIGHT) {
    await Promise.all(
      paths.slice(from, from + IN_FLIGHT).map(async path => {
        const found = await readFile(join(dir, path));
        if (found.equals(contentOf(whole.version, path, whole.shape))) return;
        throw new Error(
          `${dir}/${path} is not of version ${whole.version}: ${found.toString('latin1', 0, 60)}`,
        );
      }),
    );
  }
  return whole;
}

function parse(text: string): Whole | null {
  const [, version, files, bytes] = /^version (\S+) with (\d+) files of (\d+) bytes/.exec(text) ?? [];
  return version === undefined ? null : { version, shape: { files: Number(files), bytes: Number(bytes) } };
}

/** The paths of all files below a directory. */
export async function filesBelow(dir: string): Promise<readonly string[]> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true });
  return entries
    .filter(entry => !entry.isDirectory())
    .map(entry => relative(dir, join(entry.parentPath, entry.name)))
    .toSorted();
}
