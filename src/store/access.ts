import { access as reach, readdir } from 'node:fs/promises';
import type { Clock } from '../domain/clock.ts';
import { errnoOf, SidecarError, toSidecarError } from '../domain/errors.ts';
import type { Scope } from '../domain/scope.ts';
import { makeDirectory } from './disk/durable.ts';
import { type FileSystem, probeFileSystem } from './disk/file-system.ts';
import { Layout } from './disk/layout.ts';
import { Lease, sweepDeadLeases } from './disk/lease.ts';
import { Ownership } from './disk/ownership.ts';
import { Partials } from './intake/partials.ts';

/** What this process may do with the directory. */
export interface Access {
  readonly lease: Lease | null;
  readonly ownership: Ownership;
  readonly problem: SidecarError | null;
  readonly swept: number;
  readonly isAlone: boolean;
  readonly fileSystem: FileSystem;
}

/**
 * Makes the layout, removes what dead processes left, and takes a lease, where anything can be written.
 * @throws SidecarError where nothing can be read either
 */
export async function accessTo(
  layout: Layout,
  cacheDir: string,
  scope: Scope | null,
  clock: Clock,
): Promise<Access> {
  try {
    await makeLayout(layout);
    const take = () => Lease.take(layout.tmp, scope?.id);
    // Where the disk is full, what dead processes left may be what it is full of.
    const lease = await take().catch(async () => {
      await sweepLitter(layout, clock);
      return await take();
    });
    const swept = await sweepLitter(layout, clock);
    const isAlone = (await readdir(layout.tmp)).length === 1;
    const fileSystem = await probeFileSystem(layout.root, lease.dir);
    const ownership = await Ownership.of(layout.tmp, lease, clock);
    return { lease, ownership, problem: null, swept, isAlone, fileSystem };
  } catch (error) {
    const problem = unusable(cacheDir, error);
    await reach(layout.refs).catch(() => {
      throw problem;
    });
    const ownership = await Ownership.of(layout.tmp, null, clock);
    const fileSystem = await probeFileSystem(layout.root, null);
    return { lease: null, ownership, problem, swept: 0, isAlone: false, fileSystem };
  }
}

/** Why nothing can be written in the directory; null where it can. */
export async function problemOf(cacheDir: string, clock: Clock): Promise<SidecarError | null> {
  try {
    const { lease, ownership, problem } = await accessTo(new Layout(cacheDir), cacheDir, null, clock);
    ownership.release();
    await lease?.release();
    return problem;
  } catch (error) {
    return unusable(cacheDir, error);
  }
}

/** Removes what dead processes left, but for beginnings of large files that are worth going on with; returns how many those were. */
export async function sweepLitter(layout: Layout, clock: Clock): Promise<number> {
  const partials = new Partials(layout, layout.tmp);
  const swept = await sweepDeadLeases(layout.tmp, clock, dead => partials.rescue(dead));
  await partials.sweep(clock.now());
  return swept;
}

export async function makeLayout(layout: Layout): Promise<void> {
  for (const dir of layout.shared) await makeDirectory(dir, 0o755);
  for (const dir of layout.private) await makeDirectory(dir, 0o700);
}

export function unusable(dir: string, cause: unknown): SidecarError {
  if (cause instanceof SidecarError) return cause;
  const { code: found, message, hint } = toSidecarError(cause);
  // It takes nothing, whatever the reason.
  const code = ['EACCES', 'EPERM'].includes(errnoOf(cause)) ? 'disk_full' : found;
  return new SidecarError(code, `The cache directory ${dir} does not work: ${message.replace(/\.$/, '')}.`, {
    hint:
      hint ??
      'Make it writable for this user, all that is in it too (where another user filled it: chown -R, or empty it), or set SIDECAR_CACHE_DIR to a directory that is.',
    cause,
  });
}

export function hanging(layout: Layout): SidecarError {
  return new SidecarError('internal', `The disk of the cache directory ${layout.root} does not answer.`, {
    hint: 'What is cached is given from memory. Look at the file system of SIDECAR_CACHE_DIR.',
  });
}
