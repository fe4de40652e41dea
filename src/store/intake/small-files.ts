import { lstat as statOf } from 'node:fs';
import { type FileHandle, open, rm } from 'node:fs/promises';
import { settleEach } from '../disk/bulk.ts';
import { temporaryName, unlessUnsupported } from '../disk/durable.ts';

/** Group and others read it whatever the process' umask is; it is asked for once, since it costs a call for each file. */
const IS_MASKED = (process.umask() & 0o444) !== 0;

/**
 * Writes many small files, step by step for all of them: the disk syncs together what is asked for together. All are on the disk
 * when it resolves; none is left where it throws.
 */
export async function writeSmallFiles(tmp: string, files: readonly Uint8Array[]): Promise<readonly string[]> {
  const paths = files.map(() => temporaryName(tmp));
  const opened = await settleEach(paths, path => open(path, 'wx', 0o444));
  const handles = opened.map(one => (one.status === 'fulfilled' ? one.value : null));
  const written = await settleEach(handles, (handle, at) => fill(handle, files[at]));
  const synced = await settleEach(handles, async handle => await handle?.sync());
  const closed = await settleEach(handles, async handle => await handle?.close());
  const failed = [...opened, ...written, ...synced, ...closed].find(one => one.status === 'rejected');
  if (failed === undefined) return paths;
  await settleEach(paths, path => rm(path, { force: true }));
  throw failed.reason;
}

async function fill(handle: FileHandle | null, bytes: Uint8Array | undefined): Promise<void> {
  if (handle === null || bytes === undefined) return;
  await handle.writeFile(bytes);
  if (IS_MASKED) await handle.chmod(0o444).catch(unlessUnsupported);
}

/** Whether something with this name and size is there. An error of a promise's `stat` costs a stack trace for each new file. */
export async function hasSize(path: string, size: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  statOf(path, (error, stats) => resolve(error === null && stats.isFile() && stats.size === size));
  return await promise;
}
