import { stat as statOf } from 'node:fs';
import { type FileHandle, open, rm } from 'node:fs/promises';
import { temporaryName } from './durable.ts';

/** Group and others read it whatever the process' umask is; it is asked for once, since it costs a call for each file. */
const IS_MASKED = (process.umask() & 0o444) !== 0;

/**
 * Writes many small files, step by step for all of them: each hand-over to one of libuv's threads wakes it, and on a busy machine
 * that costs more than the work; threads that have enough to do are not woken. All are on the disk when it resolves; none is
 * left where it throws.
 */
export async function writeSmallFiles(tmp: string, files: readonly Uint8Array[]): Promise<readonly string[]> {
  const paths = files.map(() => temporaryName(tmp));
  const opened = await Promise.allSettled(paths.map(path => open(path, 'wx', 0o444)));
  const handles = opened.map(one => (one.status === 'fulfilled' ? one.value : null));
  const written = await Promise.allSettled(handles.map((handle, at) => fill(handle, files[at])));
  const synced = await Promise.allSettled(handles.map(async handle => await handle?.sync()));
  const closed = await Promise.allSettled(handles.map(async handle => await handle?.close()));
  const failed = [...opened, ...written, ...synced, ...closed].find(one => one.status === 'rejected');
  if (failed === undefined) return paths;
  await Promise.all(paths.map(path => rm(path, { force: true })));
  throw failed.reason;
}

async function fill(handle: FileHandle | null, bytes: Uint8Array | undefined): Promise<void> {
  if (handle === null || bytes === undefined) return;
  await handle.writeFile(bytes);
  if (IS_MASKED) await handle.chmod(0o444);
}

/** Whether something with this name and size is there. An error of a promise's `stat` costs a stack trace for each new file. */
export async function isThere(path: string, size: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  statOf(path, (error, stats) => resolve(error === null && stats.size === size));
  return await promise;
}
