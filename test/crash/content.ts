import { createCipheriv, createHash } from 'node:crypto';
import { readdir, readFile, realpath } from 'node:fs/promises';
import { join, relative } from 'node:path';

const IN_FLIGHT = 50;

/** A model's size: how many files of how many bytes, and the bytes of one more, if there is one, that may be large. */
export interface Shape {
  readonly files: number;
  readonly bytes: number;
  readonly large?: number;
}

const LARGE = 'large.bin';

export const THOUSAND: Shape = { files: 1_000, bytes: 10 * 1024 };

/** What file `path` of `version` holds: both names and the shape, over and over; in the large one nothing comes again. */
export function contentOf(version: string, path: string, shape: Shape = THOUSAND): Buffer {
  const { files, bytes, large = 0 } = shape;
  if (path === LARGE) return randomContent(version, large);
  const beside = large === 0 ? '' : ` and ${large} more`;
  return Buffer.alloc(bytes, `version ${version} with ${files} files of ${bytes} bytes${beside}: ${path}\n`);
}

/** Bytes that look random, and that the seed gives again. */
function randomContent(seed: string, bytes: number): Buffer {
  const key = createHash('sha256').update(seed).digest();
  return createCipheriv('aes-256-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(bytes));
}

export function pathsOf({ files, large = 0 }: Shape): readonly string[] {
  const others = Array.from({ length: files - 1 }, (_, n) => `data/${n % 10}/file-${n}.bin`);
  return ['MLmodel', ...others, ...(large === 0 ? [] : [LARGE])];
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
  const [, version, files, bytes, large] =
    /^version (\S+) with (\d+) files of (\d+) bytes(?: and (\d+) more)?/.exec(text) ?? [];
  if (version === undefined) return null;
  return { version, shape: { files: Number(files), bytes: Number(bytes), large: Number(large ?? 0) } };
}

/** The paths of all files below a directory. */
export async function filesBelow(dir: string): Promise<readonly string[]> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true });
  return entries
    .filter(entry => !entry.isDirectory())
    .map(entry => relative(dir, join(entry.parentPath, entry.name)))
    .toSorted();
}
