import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { load, openLimited, SIZE, snapshotsIn } from '../store/collect-support.ts';
import { filesBelow, temporaryDirectory } from '../store/support.ts';
import { run } from './support.ts';

const ENV = { MLFLOW_TRACKING_URI: 'http://mlflow:5000', SIDECAR_LOG_LEVEL: 'warn' };
/** The least that the option allows. */
const MAX_BYTES = 1_048_576;

/** Three versions of 1 MiB in all, of which the first one may go. */
async function withThreeVersions(
  bytes = MAX_BYTES / 2,
): Promise<{ readonly dir: string; readonly first: string }> {
  const dir = await temporaryDirectory();
  const opened = await openLimited({}, dir);
  const first = await load(opened, 1, { size: bytes });
  for (const version of [2, 3]) await load(opened, version, { size: bytes });
  await opened.store.close();
  return { dir, first };
}

/** So that what was superseded just now counts as old. */
async function makeOld(dir: string): Promise<void> {
  const { utimes } = await import('node:fs/promises');
  const longAgo = new Date(Date.now() - 48 * 3_600_000);
  for (const part of ['state/used', 'state/manifests']) {
    for (const name of await readdir(join(dir, 'v1', part)))
      await utimes(join(dir, 'v1', part, name), longAgo, longAgo);
  }
}

test('a cache without a sidecar is collected: what goes and what stays is said', async () => {
  const { dir, first } = await withThreeVersions();
  await makeOld(dir);
  const env = { ...ENV, SIDECAR_CACHE_DIR: dir, SIDECAR_CACHE_MAX_BYTES: String(MAX_BYTES) };
  const dry = await run(['gc', '--dry-run'], env);
  expect(dry).toMatchObject({ code: 0, stderr: '' });
  expect(dry.stdout).toBe(
    [
      `snapshots/${first} (superseded over 24 h ago)`,
      'Would remove 1 version, 0 other things; would free 512 KiB.',
      'Kept: 2 versions, 1.0 MiB in all: what refs point to, what they pointed to before, and what was used in the last 24 h or fits.',
      '',
    ].join('\n'),
  );
  expect(await snapshotsIn(dir)).toHaveLength(3);
  const real = await run(['gc'], env);
  expect(real).toMatchObject({ code: 0, stderr: '' });
  expect(real.stdout).toContain('Removed 1 version, 0 other things; freed 512 KiB.');
  expect(await snapshotsIn(dir)).not.toContain(first);
  expect(await filesBelow(join(dir, 'v1/tmp'))).toEqual([]);
});

test('beside a running process that owns the cache nothing is removed, and --dry-run works', async () => {
  const { store, dir } = await openLimited({});
  await load({ store, clock: (await openLimited({})).clock }, 1);
  const env = { ...ENV, SIDECAR_CACHE_DIR: dir };
  const { code, stdout, stderr } = await run(['gc'], env);
  expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
  expect(stderr).toContain(`a running process (pid ${process.pid}) owns this cache`);
  const dry = await run(['gc', '--dry-run'], env);
  expect(dry.code).toBe(0);
  expect(dry.stdout).toContain('Would remove 0 versions');
  expect(dry.stdout).toContain('Kept: 1 version, 9.8 KiB');
  expect(SIZE).toBe(10_000);
});

test('a cache that is over its limit with what must stay says so', async () => {
  const { dir } = await withThreeVersions(MAX_BYTES);
  const env = { ...ENV, SIDECAR_CACHE_DIR: dir, SIDECAR_CACHE_MAX_BYTES: String(MAX_BYTES) };
  await makeOld(dir);
  const { code, stdout } = await run(['gc'], env);
  expect(code).toBe(0);
  expect(stdout).toContain('The cache is 1.0 MiB over what it may hold, and nothing more may go');
});
