import { randomBytes } from 'node:crypto';
import {
  chmod,
  constants,
  copyFile,
  link,
  lstat,
  mkdir,
  open,
  readdir,
  realpath,
  rename,
  rm,
} from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { errnoOf } from '../domain/errors.ts';
import { CommandFailure } from './failure.ts';
import { readTree, sharedEntries } from './tree.ts';

/**
 * DIR.tmp-<random>   where it is built, when DIR can be renamed onto
 * DIR/.tmp-<random>  where it is built, when DIR is a mount point; its entries are then moved up one by one
 * DIR/…              the model; whole as soon as MLmodel is there, which comes last
 *
 * What a crash left under such names is removed by the next fetch into DIR; two at once into one DIR are not provided for.
 */
const INSIDE_PREFIX = '.tmp-';
const MARKER = 'MLmodel';

/** A volume of its own holds this directory of the file system's from the start. */
const LOST_AND_FOUND = 'lost+found';

/** The errors of a rename onto a mount point, or beside it. */
const NOT_BESIDE = new Set(['EBUSY', 'EXDEV', 'EACCES', 'EPERM', 'EROFS']);

const random = (): string => randomBytes(8).toString('hex');

function isLeftover(name: string, prefix: string): boolean {
  return name.startsWith(prefix) && /^[0-9a-f]{16}$/.test(name.slice(prefix.length));
}

function isOurs(name: string): boolean {
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
      return await makeDirectory(`${target.dir}.tmp-${random()}`);
    } catch (error) {
      if (!target.exists || !NOT_BESIDE.has(errnoOf(error))) throw error;
    }
  }
  return makeInside(target);
}

function makeInside({ dir }: Target): Promise<string> {
  return makeDirectory(join(dir, `${INSIDE_PREFIX}${random()}`));
}

async function isOnParentsDevice(dir: string): Promise<boolean> {
  return (await lstat(dir)).dev === (await lstat(dirname(dir))).dev;
}

async function makeDirectory(path: string): Promise<string> {
  await mkdir(path);
  // The mode that mkdir takes is cut by the umask.
  await chmod(path, 0o755);
  return path;
}

/**
 * Puts the files of a snapshot into DIR: after a crash DIR is as it was, or whole, or, on a mount point, without MLmodel and
 * finished by the next fetch. Files 0444, directories 0755, all of it synced.
 * @throws CommandFailure where DIR holds anything else, which is never overwritten
 */
export async function materialize(
  snapshot: string,
  target: Target,
  signal: AbortSignal,
): Promise<'put' | 'up_to_date'> {
  const there = target.exists ? await sharedEntries(snapshot, target.dir, isOurs) : new Set<string>();
  if (there === null) {
    throw new CommandFailure(
      `${target.dir} holds something else, and is never overwritten: empty it, or name another directory.`,
    );
  }
  if ((await readdir(snapshot)).every(name => there.has(name))) return 'up_to_date';
  const wasRenamed = there.size === 0 && (await putBeside(snapshot, target, signal));
  if (!wasRenamed) await putInside(snapshot, target, there, signal);
  return 'put';
}

/** False where DIR is a mount point, onto which nothing can be renamed. */
async function putBeside(snapshot: string, target: Target, signal: AbortSignal): Promise<boolean> {
  const aside = await makeAside(target);
  try {
    if (dirname(aside) === target.dir) return false;
    await build(snapshot, aside, signal);
    await rename(aside, target.dir);
    await sync(dirname(target.dir));
    return true;
  } catch (error) {
    if (!target.exists || !NOT_BESIDE.has(errnoOf(error))) throw error;
    return false;
  } finally {
    await rm(aside, { recursive: true, force: true });
  }
}

/** Entry by entry; `there` names what an interrupted fetch has moved already. */
async function putInside(
  snapshot: string,
  target: Target,
  there: ReadonlySet<string>,
  signal: AbortSignal,
): Promise<void> {
  const aside = await makeInside(target);
  try {
    await build(snapshot, aside, signal);
    const missing = (await readdir(aside)).filter(name => !there.has(name));
    const markerLast = missing.toSorted((a, b) => Number(a === MARKER) - Number(b === MARKER));
    for (const name of markerLast) await rename(join(aside, name), join(target.dir, name));
    await sync(target.dir);
  } finally {
    await rm(aside, { recursive: true, force: true });
  }
}

async function build(snapshot: string, into: string, signal: AbortSignal): Promise<void> {
  const directories = new Set([into]);
  for (const path of (await readTree(snapshot)).files.keys()) {
    signal.throwIfAborted();
    await ensureDirectory(into, dirname(path), directories);
    await linkOrCopy(join(snapshot, path), join(into, path));
  }
  for (const directory of directories) await sync(directory);
}

async function ensureDirectory(root: string, below: string, made: Set<string>): Promise<void> {
  const path = join(root, below);
  if (made.has(path)) return;
  await ensureDirectory(root, dirname(below), made);
  await makeDirectory(path);
  made.add(path);
}

/** A link to a file of the store is synced and read-only already. */
async function linkOrCopy(from: string, to: string): Promise<void> {
  try {
    await link(from, to);
  } catch {
    // Another file system, or one without links, or a file of another user: whatever it was, a copy tells.
    await copyFile(from, to, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
    await chmod(to, 0o444);
    await sync(to);
  }
}

async function sync(path: string): Promise<void> {
  await using handle = await open(path, 'r');
  await handle.sync();
}
