import { constants, createReadStream, type Stats } from 'node:fs';
import { type FileHandle, open, readdir, readlink, realpath } from 'node:fs/promises';
import { isAbsolute, join, relative } from 'node:path';
import { errnoOf, SidecarError } from '../domain/errors.ts';
import { mapBounded } from '../policy/bounded.ts';
import type { Call } from '../upstream/mlflow-client.ts';
import { unsafe } from './paths.ts';
import type { ArtifactSource, Entry, OpenFile, Progress, SmallFile } from './source.ts';
import { readWhole } from './whole.ts';

/** Each piece is written by itself. */
const READ_BYTES = 256 * 1024;

/** Entries of a directory that are looked at together: each is opened for that. */
const LOOKS_AT_ONCE = 16;
const IS_LINUX = process.platform === 'linux';
/** Linux' O_PATH: what is there, opened neither for reading nor for writing. */
const O_PATH = 0o10000000;
/** macOS' O_NOFOLLOW_ANY: no part of the path may be a link, which a real path has none of. */
const O_NOFOLLOW_ANY = 0x20000000;
const FOLLOW_NOTHING = IS_LINUX ? constants.O_NOFOLLOW : O_NOFOLLOW_ANY;
/** A pipe would hang whoever opens it without O_NONBLOCK. */
const TO_READ = constants.O_RDONLY | constants.O_NONBLOCK | FOLLOW_NOTHING;
const TO_LOOK = IS_LINUX ? O_PATH | FOLLOW_NOTHING : TO_READ;

/**
 * A directory that the sidecar can read itself, below one that the operator named. Links that lead out are refused; and since a
 * directory on the way may become a link between a look and the next, what is read is what was opened and looked at.
 */
export class LocalFiles implements ArtifactSource {
  readonly root: string;
  readonly #allowedRoots: readonly string[];

  /** @param allowedRoots absolute paths, from SIDECAR_FILE_ROOTS */
  constructor(root: string, allowedRoots: readonly string[]) {
    this.root = root;
    this.#allowedRoots = allowedRoots;
  }

  async list(dir: string, call: Call): Promise<readonly Entry[]> {
    call.signal.throwIfAborted();
    const found = await this.#open(dir, TO_LOOK);
    if (found === null) return [];
    try {
      if (!(await found.handle.stat()).isDirectory()) return [];
      const names = await readdir(IS_LINUX ? `/proc/self/fd/${found.handle.fd}` : found.real);
      return await mapBounded(names, LOOKS_AT_ONCE, name => this.#entry(dir, name));
    } finally {
      await found.handle.close();
    }
  }

  async open(path: string, call: Call): Promise<OpenFile> {
    const found = await this.#open(path, TO_READ);
    if (found === null) throw new SidecarError('artifact_missing', `The artifact file ${path} is not there.`);
    const { handle, real } = found;
    const stats = await handle.stat();
    if (!stats.isFile()) {
      await handle.close();
      throw unsafe(path, 'is no regular file');
    }
    const body = createReadStream(real, { fd: handle, signal: call.signal, highWaterMark: READ_BYTES });
    return {
      body,
      length: stats.size,
      hasEnd: true,
      etag: null,
      part: null,
      close: () => void body.on('error', () => undefined).destroy(),
    };
  }

  async read(file: SmallFile, call: Call, progress: Progress): Promise<Uint8Array> {
    return await readWhole(file, await this.open(file.path, call), progress);
  }

  async #entry(dir: string, name: string): Promise<Entry> {
    const found = await this.#open(join(dir, name), TO_LOOK);
    if (found === null) throw new SidecarError('artifact_missing', `The artifact ${name} leads nowhere.`);
    const stats = await statAndClose(found.handle);
    if (!stats.isDirectory() && !stats.isFile()) throw unsafe(join(dir, name), 'is no regular file');
    return { name, isDir: stats.isDirectory(), size: stats.isDirectory() ? null : stats.size };
  }

  /** To be closed; null where there is nothing. */
  async #open(path: string, flags: number): Promise<{ handle: FileHandle; real: string } | null> {
    const real = await realpath(join(this.root, path)).catch(nullIfAbsent);
    if (real === null) return null;
    await this.#check(path, real);
    const handle = await open(real, flags).catch(nullIfAbsent);
    if (handle === null) return null;
    try {
      if (IS_LINUX) await this.#check(path, await readlink(`/proc/self/fd/${handle.fd}`));
      return { handle, real };
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  /** @throws SidecarError `unsafe_path` for a real path outside the allowed roots */
  async #check(path: string, real: string): Promise<void> {
    const roots = await Promise.all(this.#allowedRoots.map(root => realpath(root).catch(nullIfAbsent)));
    if (roots.some(root => root !== null && isInside(root, real))) return;
    throw new SidecarError(
      'unsafe_path',
      `${join(this.root, path)} is outside the directories that may be read.`,
      {
        hint: 'Name its directory in SIDECAR_FILE_ROOTS if models may be read from there.',
      },
    );
  }
}

async function statAndClose(handle: FileHandle): Promise<Stats> {
  try {
    return await handle.stat();
  } finally {
    await handle.close();
  }
}

function isInside(root: string, path: string): boolean {
  const steps = relative(root, path);
  return steps !== '..' && !steps.startsWith('../') && !isAbsolute(steps);
}

function nullIfAbsent(error: unknown): null {
  const errno = errnoOf(error);
  if (errno === 'ENOENT' || errno === 'ENOTDIR') return null;
  const [code, what] =
    errno === 'ELOOP'
      ? (['unsafe_path', 'leads in a circle, or became a link while it was opened,'] as const)
      : (['access_denied', 'cannot be read'] as const);
  throw new SidecarError(code, `A path of the artifacts ${what}: ${String(error)}`, { cause: error });
}
