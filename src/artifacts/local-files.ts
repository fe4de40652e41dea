import { constants, createReadStream } from 'node:fs';
import { lstat, open, readdir, realpath } from 'node:fs/promises';
import { isAbsolute, join, relative } from 'node:path';
import { errnoOf, SidecarError } from '../domain/errors.ts';
import type { Call } from '../upstream/mlflow-client.ts';
import { unsafe } from './paths.ts';
import type { ArtifactSource, Entry, OpenFile, Progress, SmallFile } from './source.ts';
import { readWhole } from './whole.ts';

/** Each piece is written by itself. */
const READ_BYTES = 256 * 1024;

/** A directory that the sidecar can read itself, below one that the operator named. Links that lead out are refused. */
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
    const real = await this.#resolve(dir);
    if (real === null || !(await lstat(real)).isDirectory()) return [];
    const names = await readdir(real);
    return await Promise.all(names.map(name => this.#entry(dir, name)));
  }

  async open(path: string, call: Call): Promise<OpenFile> {
    const real = await this.#resolve(path);
    if (real === null) throw new SidecarError('artifact_missing', `The artifact file ${path} is not there.`);
    // A pipe would hang whoever opens it without O_NONBLOCK.
    const handle = await open(real, constants.O_RDONLY | constants.O_NONBLOCK);
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
    const real = await this.#resolve(join(dir, name));
    if (real === null) throw new SidecarError('artifact_missing', `The artifact ${name} leads nowhere.`);
    const stats = await lstat(real);
    if (!stats.isDirectory() && !stats.isFile()) throw unsafe(join(dir, name), 'is no regular file');
    return { name, isDir: stats.isDirectory(), size: stats.isDirectory() ? null : stats.size };
  }

  /** The real path, or null where there is nothing. */
  async #resolve(path: string): Promise<string | null> {
    const real = await realpath(join(this.root, path)).catch(nullIfAbsent);
    if (real === null) return null;
    const roots = await Promise.all(this.#allowedRoots.map(root => realpath(root).catch(nullIfAbsent)));
    if (roots.some(root => root !== null && isInside(root, real))) return real;
    throw new SidecarError(
      'unsafe_path',
      `${join(this.root, path)} is outside the directories that may be read.`,
      {
        hint: 'Name its directory in SIDECAR_FILE_ROOTS if models may be read from there.',
      },
    );
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
      ? (['unsafe_path', 'leads in a circle'] as const)
      : (['access_denied', 'cannot be read'] as const);
  throw new SidecarError(code, `A path of the artifacts ${what}: ${String(error)}`, { cause: error });
}
