import { lstat, mkdir, readdir, readFile, readlink, rm, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { scopeOf } from '../../src/domain/scope.ts';
import { HOUR_MS, load, openLimited, SIZE, snapshotsIn } from '../store/collect-support.ts';
import { filesBelow, temporaryDirectory } from '../store/support.ts';
import { directory, run } from './support.ts';

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
  const longAgo = new Date(Date.now() - 48 * 3_600_000);
  for (const part of ['state/used', 'state/manifests']) {
    for (const name of await readdir(join(dir, 'v1', part)))
      await utimes(join(dir, 'v1', part, name), longAgo, longAgo);
  }
}

test('a cache without a sidecar is collected: what goes and what stays is said', async () => {
  const { dir, first } = await withThreeVersions();
  await makeOld(dir);
  const env = { SIDECAR_CACHE_DIR: dir, SIDECAR_CACHE_MAX_BYTES: String(MAX_BYTES) };
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
  const env = { SIDECAR_CACHE_DIR: dir };
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
  const env = { SIDECAR_CACHE_DIR: dir, SIDECAR_CACHE_MAX_BYTES: String(MAX_BYTES) };
  await makeOld(dir);
  const { code, stdout } = await run(['gc'], env);
  expect(code).toBe(0);
  expect(stdout).toContain('The cache is 1.0 MiB over what it may hold, and nothing more may go');
});

/** Every entry of a tree with its time, and what is in it. */
async function everythingIn(dir: string): Promise<readonly string[]> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true });
  const described = entries.map(async entry => {
    const path = join(entry.parentPath, entry.name);
    const { mtimeMs, ino } = await lstat(path);
    const read = () => (entry.isSymbolicLink() ? readlink(path) : readFile(path, 'base64'));
    return `${path} ${ino} ${mtimeMs} ${entry.isDirectory() ? '' : await read()}`;
  });
  return (await Promise.all(described)).toSorted();
}

const RECORD = 'v1/refs/churn/Production.json';
const LINK = 'v1/models/churn/Production';

describe('a cache whose refs are of a registry that gc knows nothing of', () => {
  test('is not changed at all by --dry-run, not even what is damaged in it', async () => {
    const { dir } = await withThreeVersions();
    await mkdir(join(dir, 'v1/refs/b'));
    await writeFile(join(dir, 'v1/refs/b/Staging.json'), '{');
    await mkdir(join(dir, 'v1/tmp/4194304-dead'));
    await makeOld(dir);
    const before = await everythingIn(dir);
    const env = {
      SIDECAR_CACHE_DIR: dir,
      SIDECAR_CACHE_MAX_BYTES: String(MAX_BYTES),
      MLFLOW_TRACKING_URI: 'http://another:5000',
    };
    const { code, stdout } = await run(['gc', '--dry-run'], env);
    expect(code).toBe(0);
    expect(stdout).toContain('Would remove 1 version');
    expect(await everythingIn(dir)).toEqual(before);
  });

  test('keeps its links and its records through gc, whatever lies beside them', async () => {
    const { dir } = await withThreeVersions();
    await mkdir(join(dir, 'v1/refs/b'));
    await writeFile(join(dir, 'v1/refs/b/Staging.json'), '{');
    const [link, record] = [await readlink(join(dir, LINK)), await readFile(join(dir, RECORD), 'utf8')];
    const env = { SIDECAR_CACHE_DIR: dir, MLFLOW_TRACKING_URI: 'http://another:5000' };
    expect(await run(['gc'], env)).toMatchObject({ code: 0, stderr: '' });
    expect(await readlink(join(dir, LINK))).toBe(link);
    expect(await readFile(join(dir, RECORD), 'utf8')).toBe(record);
    expect(await readFile(join(dir, 'v1/refs/b/Staging.json'), 'utf8')).toBe('{');
  });

  test('keeps what refs of several registries point to', async () => {
    const { dir } = await withThreeVersions(MAX_BYTES);
    const other = await openLimited({}, dir, scopeOf('http://another:5000', null, null));
    const theirs = await load(other, 4, { size: MAX_BYTES, own: { id: 'f'.repeat(32), own: false } });
    await other.store.close();
    await makeOld(dir);
    const { code } = await run(['gc', '--cache-dir', dir, '--cache-max-bytes', String(MAX_BYTES)]);
    expect(code).toBe(0);
    expect(await snapshotsIn(dir)).toHaveLength(3);
    expect(await snapshotsIn(dir)).toContain(theirs);
  });
});

/** As if MLflow had confirmed it two days ago. */
async function makeStale(dir: string): Promise<void> {
  const record: object = JSON.parse(await readFile(join(dir, RECORD), 'utf8'));
  const confirmed_at = (Date.now() - 48 * HOUR_MS) / 1_000;
  await rm(join(dir, RECORD));
  await writeFile(join(dir, RECORD), JSON.stringify({ ...record, confirmed_at }));
}

test('refs that are too old to be given go by --max-stale-s, but for --models', async () => {
  const { dir } = await withThreeVersions(MAX_BYTES);
  await makeOld(dir);
  await makeStale(dir);
  const args = ['gc', '--cache-dir', dir, '--cache-max-bytes', String(MAX_BYTES), '--max-stale-s', '86400'];
  expect((await run([...args, '--models', 'models:/churn/Production'])).code).toBe(0);
  expect(await snapshotsIn(dir)).toHaveLength(2);
  const { code, stdout } = await run(args);
  expect(code).toBe(0);
  expect(stdout).toContain(`${RECORD.slice(3)}: models:/churn/Production (too old to be given`);
  expect(await snapshotsIn(dir)).toEqual([]);
  expect(await filesBelow(join(dir, 'v1/models'))).toEqual([]);
});

test.each([['gc'], ['gc --dry-run']])(
  '%s where there is no cache ends with 2 and makes none',
  async command => {
    const dir = join(directory(), 'mistyped');
    const gone = await run([...command.split(' '), '--cache-dir', dir]);
    expect(gone).toEqual({ code: 2, stdout: '', stderr: `mlflow-sidecar: there is no cache in ${dir}.\n` });
    await expect(lstat(dir)).rejects.toThrow('ENOENT');
    await mkdir(dir);
    expect(await run([...command.split(' '), '--cache-dir', dir])).toMatchObject({ code: 2, stdout: '' });
    expect(await readdir(dir)).toEqual([]);
  },
);

test('what is left of a cache is collected as it is', async () => {
  const dir = directory();
  await mkdir(join(dir, 'v1'));
  const { code, stdout } = await run(['gc', '--dry-run', '--cache-dir', dir]);
  expect(code).toBe(0);
  expect(stdout).toContain('Would remove 0 versions');
  expect(await readdir(join(dir, 'v1'))).toEqual([]);
});

test('the limits may stand in the file, and a faulty one is told', async () => {
  const { dir } = await withThreeVersions();
  await makeOld(dir);
  const config = join(directory(), 'sidecar.yaml');
  await writeFile(config, `cache_dir: ${dir}\ncache_max_bytes: 1048576\nport: none of gc’s business\n`);
  const { code, stdout } = await run(['gc', '--dry-run', '--config', config]);
  expect(code).toBe(0);
  expect(stdout).toContain('Would remove 1 version');
  const { code: faulty, stderr } = await run(['gc'], { SIDECAR_CACHE_MAX_BYTES: 'much' });
  expect(faulty).toBe(2);
  expect(stderr).toContain('SIDECAR_CACHE_MAX_BYTES="much"');
});

test.each([
  [
    'gc',
    ['--dry-run', '--cache-dir', '--cache-max-bytes', '--config', '--models', '--max-stale-s', '--help'],
  ],
  ['verify', ['--cache-dir', '--config', '--help']],
])('the help of %s lists only what has an effect', async (command, flags) => {
  const { stdout } = await run([command, '--help']);
  const listed = [...stdout.matchAll(/^ +(?:-h, )?(--[\w-]+)/gm)].map(([, flag]) => flag);
  expect(new Set(listed)).toEqual(new Set(flags));
  expect(stdout).not.toContain('MLFLOW');
});
