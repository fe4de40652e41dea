import { randomBytes } from 'node:crypto';
import { chmod, lstat, mkdir, readdir, realpath, rename, rm } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { errnoOf } from '../domain/errors.ts';
import { CommandFailure } from './failure.ts';

/**
 * DIR.tmp-<random>   where it is built, or what it held, when DIR can be renamed
 * DIR/.tmp-<random>  the same, when DIR is a mount point; entries are then moved one by one
 *
 * What a crash left under such names is removed by the next fetch into DIR; two at once into one DIR are not provided for.
 */
const INSIDE_PREFIX = '.tmp-';

/** A volume of its own holds this directory of the file system's from the start. */
export const LOST_AND_FOUND = 'lost+found';

/** The errors of a rename onto a mount point, or beside it. */
export const NOT_BESIDE: ReadonlySet<string> = new Set(['EBUSY', 'EXDEV', 'EACCES', 'EPERM', 'EROFS']);

const random = (): string => randomBytes(8).toString('hex');

function isLeftover(name: string, prefix: string): boolean {
  return name.startsWith(prefix) && /^[0-9a-f]{16}$/.test(name.slice(prefix.length));
}

/** Whether an entry at the top of DIR is none of the model's. */
export function isOurs(name: string): boolean {
  return isLeftover(name, INSIDE_PREFIX) || name === LOST_AND_FOUND;
}

/** Where a model is to be put; an existing directory by its real path. */
export interface Target {
  readonly dir: string;
  readonly exists: boolean;
}

/**
 * Looks at DIR, makes its parents, and removes what an earlier, interrupted fetch left there.
 * @throws CommandFailure where it is no directory
 */
export async function prepareTarget(to: string): Promise<Target> {
  const target = await lookAt(resolve(to));
  if (!target.exists) await mkdir(dirname(target.dir), { recursive: true });
  await removeLeftovers(target);
  return target;
}

async function lookAt(path: string): Promise<Target> {
  const found = await lstat(path).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return null;
    throw error;
  });
  if (found === null) return { dir: path, exists: false };
  const dir = found.isSymbolicLink() ? await realpath(path) : path;
  if (!(await lstat(dir)).isDirectory()) throw new CommandFailure(`${path} is not a directory.`);
  return { dir, exists: true };
}

async function removeLeftovers({ dir, exists }: Target): Promise<void> {
  const besidePrefix = `${basename(dir)}.tmp-`;
  await sweep(dirname(dir), besidePrefix);
  if (exists) await sweep(dir, INSIDE_PREFIX);
}

async function sweep(parent: string, prefix: string): Promise<void> {
  // A parent that cannot be read holds nothing that was built there.
  const names = await readdir(parent).catch(() => []);
  for (const name of names.filter(one => isLeftover(one, prefix))) {
    // Renamed first: whoever still builds there fails, and cannot put a half-removed tree in place.
    const taken = join(parent, `${prefix}${random()}`);
    await rename(join(parent, name), taken);
    await rm(taken, { recursive: true, force: true });
  }
}

/** Makes a directory of the sidecar's own on the file system of DIR. The caller removes it. */
export async function makeAside(target: Target): Promise<string> {
  if (!target.exists || (await isOnParentsDevice(target.dir))) {
    try {
      return await makeDirectory(besideOf(target));
    } catch (error) {
      if (!target.exists || !NOT_BESIDE.has(errnoOf(error))) throw error;
    }
  }
  return makeInside(target);
}

/** A free name beside DIR, which the next fetch sweeps. */
export function besideOf({ dir }: Target): string {
  return `${dir}.tmp-${random()}`;
}

export function makeInside({ dir }: Target): Promise<string> {
  return makeDirectory(join(dir, `${INSIDE_PREFIX}${random()}`));
}

async function isOnParentsDevice(dir: string): Promise<boolean> {
  return (await lstat(dir)).dev === (await lstat(dirname(dir))).dev;
}

export async function makeDirectory(path: string): Promise<string> {
  await mkdir(path);
  // The mode that mkdir takes is cut by the umask.
  await chmod(path, 0o755);
  return path;
}
