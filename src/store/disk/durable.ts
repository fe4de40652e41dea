import { randomUUID } from 'node:crypto';
import { close as closeOf, open as openOf, readFile as readOf } from 'node:fs';
import {
  chmod,
  lstat,
  mkdir,
  open,
  readlink,
  rename,
  rm,
  rmdir,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { promisify } from 'node:util';
import { errnoOf } from '../../domain/errors.ts';
import { delay } from '../../policy/abort.ts';
import { isOther, READ_REGULAR } from './regular.ts';

const openQuickly = promisify(openOf);
const readQuickly = promisify(readOf);
const closeQuickly = promisify(closeOf);

/** Between two looks at a name that seems to be gone: a file system over the network may miss it once. */
const LOOK_AGAIN_MS = 20;

/** Makes a file's bytes, or the names in a directory, survive a power cut. */
export async function sync(path: string): Promise<void> {
  const handle = await open(path);
  try {
    await handle.sync().catch(unlessUnsupported);
  } finally {
    await handle.close();
  }
}

/** Some file systems (SMB, FUSE, FAT) do not sync directories or keep modes: without that they are worth less, not nothing. */
const UNSUPPORTED = new Set(['EPERM', 'EINVAL', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EISDIR', 'EBADF']);

export function unlessUnsupported(error: unknown): void {
  if (!UNSUPPORTED.has(errnoOf(error))) throw error;
}

/** With exactly this mode, whatever the process' umask is; nothing is written where it is so already. */
export async function makeDirectory(path: string, mode: number): Promise<void> {
  const made = await makeUnsynced(path, mode);
  if (made !== undefined) await sync(dirname(made));
}

/** The same where a power cut may take it again; the first directory that had to be made. */
export async function makeUnsynced(path: string, mode: number): Promise<string | undefined> {
  const made = await mkdir(path, { recursive: true });
  if (((await stat(path)).mode & 0o777) !== mode) await chmod(path, mode).catch(unlessUnsupported);
  return made;
}

/** A name for a temporary file that no crash can leave in the way. */
export function temporaryName(tmp: string): string {
  return join(tmp, randomUUID());
}

/** Replaces a file as a whole: readers see the old text or the new one, and after a power cut one of the two is there. */
export async function writeFileDurably(path: string, text: string, tmp: string, mode: number): Promise<void> {
  const temporary = temporaryName(tmp);
  try {
    const handle = await open(temporary, 'wx');
    try {
      await handle.writeFile(text);
      await handle.chmod(mode).catch(unlessUnsupported);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await moveOnto(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await sync(dirname(path));
}

/** Whether a file can be written: its error, or null. A directory that somebody removed is made again by whoever needs it. */
export async function tryWriting(tmp: string): Promise<unknown> {
  const path = temporaryName(tmp);
  try {
    await writeFile(path, 'written');
    return null;
  } catch (error) {
    return isAbsent(error) ? null : error;
  } finally {
    await rm(path, { force: true }).catch(() => undefined);
  }
}

/** Points the symlink `path` to `target`, relatively, by one rename. */
export async function replaceLink(path: string, target: string, tmp: string): Promise<void> {
  const temporary = temporaryName(tmp);
  try {
    await symlink(relative(dirname(path), target), temporary);
    await moveOnto(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await sync(dirname(path));
}

/** A directory in the place is in the way, and nobody's. */
async function moveOnto(from: string, to: string): Promise<void> {
  await rename(from, to).catch(async (error: unknown) => {
    if (errnoOf(error) !== 'EISDIR') throw error;
    await rm(to, { recursive: true, force: true });
    await rename(from, to);
  });
}

/** Removes the symlink `path`, unless it points elsewhere than to `target` by now. */
export async function removeLink(path: string, target: string): Promise<void> {
  const found = await readlink(path).catch(() => null);
  if (found !== relative(dirname(path), target)) return;
  await rm(path, { force: true });
  await sync(dirname(path));
}

/** Where it is empty, or not there. */
export async function removeEmpty(dir: string): Promise<void> {
  await rmdir(dir).catch((error: unknown) => {
    if (!(isAbsent(error) || ['ENOTEMPTY', 'EEXIST'].includes(errnoOf(error)))) throw error;
  });
}

/** @throws what a failing disk says */
export async function isThere(path: string): Promise<boolean> {
  return (await ifAbsent(null, stat(path))) !== null;
}

/**
 * Whether nothing of this name is there any more. Only ENOENT, seen twice, says so; a disk that fails (EIO, ESTALE, EACCES, …)
 * says nothing, so what it holds is not given up.
 */
export async function isGone(path: string): Promise<boolean> {
  if (!(await isMissing(path))) return false;
  await delay(LOOK_AGAIN_MS);
  return await isMissing(path);
}

/** The same by one look: for what may be made again at no cost. */
export async function isMissing(path: string): Promise<boolean> {
  return await stat(path).then(
    () => false,
    error => errnoOf(error) === 'ENOENT',
  );
}

/** The text of a file, or null where there is none, or something else. Without a file handle, which costs as much as the read. */
export async function readIfThere(path: string): Promise<string | null> {
  try {
    return await ifAbsent(null, readText(path));
  } catch (error) {
    if (!isOther(error)) throw error;
    // Where it is a directory above that cannot be followed, nothing is known of the file.
    await ifAbsent(null, lstat(path));
    return null;
  }
}

/** Of a pipe without a writer it is empty. */
async function readText(path: string): Promise<string> {
  const fd = await openQuickly(path, READ_REGULAR);
  try {
    return await readQuickly(fd, 'utf8');
  } finally {
    await closeQuickly(fd);
  }
}

/** What `work` gives, or `fallback` where there is no such file. Any other failure is one: a disk that fails says nothing. */
export async function ifAbsent<T, F>(fallback: F, work: Promise<T>): Promise<T | F> {
  try {
    return await work;
  } catch (error) {
    if (isAbsent(error)) return fallback;
    throw error;
  }
}

export function isAbsent(error: unknown): boolean {
  return errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR';
}
