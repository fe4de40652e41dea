import { chmod, link, readdir, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { errnoOf } from '../../domain/errors.ts';
import { ifAbsent, temporaryName } from './durable.ts';

/** What a file system can do of what the cache would use. */
export interface FileSystem {
  readonly replacesByRename: boolean;
  readonly hardLinks: boolean;
  readonly symlinks: boolean;
  readonly modes: boolean;
  /** Whether `Churn` and `churn` are two names. */
  readonly tellsCase: boolean;
}

export const COMPLETE: FileSystem = {
  replacesByRename: true,
  hardLinks: true,
  symlinks: true,
  modes: true,
  tellsCase: true,
};

/** What says that there is no such operation; anything else says nothing of the next time. */
const UNSUPPORTED = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EINVAL', 'EMLINK']);

/** What is lost, by what is missing. */
const COSTS: Readonly<Record<keyof FileSystem, string>> = {
  replacesByRename: 'replacing a file by a rename: nothing can be published',
  hardLinks: 'hard links: each version takes its space twice',
  symlinks: 'symbolic links: models/ stays empty and ref_path is null; readers find versions by refs/',
  modes: 'modes of files: whoever can reach the cache can read state/ and change files',
  tellsCase:
    'a difference between upper and lower case: in models/ and refs/ capital letters are percent-encoded',
};

export function costsOf(found: FileSystem): readonly string[] {
  const names = ['replacesByRename', 'hardLinks', 'symlinks', 'modes', 'tellsCase'] as const;
  return names.filter(name => !found[name]).map(name => COSTS[name]);
}

/**
 * Tries it with a few empty files that are not synced.
 * @param root of the layout
 * @param tmp of this process; null where nothing can be written, and only what is there is looked at
 */
export async function probeFileSystem(root: string, tmp: string | null): Promise<FileSystem> {
  const tellsCase = !(await isSame(root, join(dirname(root), basename(root).toUpperCase())));
  if (tmp === null) return { ...COMPLETE, tellsCase, symlinks: await hasEntries(join(root, 'models')) };
  const [file, hard, soft, old] = [tmp, tmp, tmp, tmp].map(temporaryName);
  if (file === undefined || hard === undefined || soft === undefined || old === undefined) return COMPLETE;
  const all = [file, hard, soft, old];
  try {
    await Promise.all([file, old].map(path => writeFile(path, '')));
    const [hardLinks, symlinks, modes] = await Promise.all([
      works(link(file, hard)),
      works(symlink('nowhere', soft)),
      works(chmod(file, 0o400).then(() => hasMode(file, 0o400))),
    ]);
    return { tellsCase, hardLinks, symlinks, modes, replacesByRename: await works(rename(file, old)) };
  } catch {
    // A disk that fails says nothing of what it can do.
    return { ...COMPLETE, tellsCase };
  } finally {
    await Promise.all(all.map(path => rm(path, { force: true }).catch(() => undefined)));
  }
}

async function works(trial: Promise<unknown>): Promise<boolean> {
  try {
    return (await trial) !== false;
  } catch (error) {
    return !UNSUPPORTED.has(errnoOf(error));
  }
}

async function hasMode(path: string, mode: number): Promise<boolean> {
  return ((await stat(path)).mode & 0o777) === mode;
}

async function isSame(path: string, other: string): Promise<boolean> {
  const [a, b] = await Promise.all([path, other].map(one => stat(one, { bigint: true }).catch(() => null)));
  return a != null && b != null && a.dev === b.dev && a.ino === b.ino;
}

async function hasEntries(dir: string): Promise<boolean> {
  return (await ifAbsent([], readdir(dir)).catch(() => [''])).length > 0;
}
