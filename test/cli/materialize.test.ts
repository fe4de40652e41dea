import { chmodSync, existsSync, lstatSync, mkdirSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { CommandFailure } from '../../src/cli/failure.ts';
import { makeAside, prepareTarget } from '../../src/cli/materialize.ts';
import { contentOf, FILES, inMount, put, snapshot, write } from './snapshots.ts';
import { directory } from './support.ts';

describe('a snapshot is put into', () => {
  test('a directory that is not there, with the parents that are missing', async () => {
    const parent = directory();
    expect(await put(snapshot(), join(parent, 'a/b/model'))).toBe('put');
    expect(contentOf(join(parent, 'a/b/model'))).toEqual(FILES);
    expect(readdirSync(join(parent, 'a/b'))).toEqual(['model']);
  });

  test('an empty directory', async () => {
    const dir = directory();
    expect(await put(snapshot(), dir)).toBe('put');
    expect(contentOf(dir)).toEqual(FILES);
  });

  test('an empty directory that a link names', async () => {
    const parent = directory();
    mkdirSync(join(parent, 'real'));
    symlinkSync('real', join(parent, 'link'));
    expect(await put(snapshot(), join(parent, 'link'))).toBe('put');
    expect(contentOf(join(parent, 'real'))).toEqual(FILES);
    expect(lstatSync(join(parent, 'link')).isSymbolicLink()).toBe(true);
  });

  test('a mount point, which stays what it is and holds nothing else', async () => {
    await inMount(async dir => {
      const before = lstatSync(dir).ino;
      expect(await put(snapshot(), dir)).toBe('put');
      expect(contentOf(dir)).toEqual(FILES);
      expect(readdirSync(dir).toSorted()).toEqual(['MLmodel', 'conda.yaml', 'data']);
      expect(lstatSync(dir).ino).toBe(before);
    });
  });

  test('a new volume, with the lost+found that its file system made', async () => {
    await inMount(async dir => {
      mkdirSync(join(dir, 'lost+found'));
      expect(await put(snapshot(), dir)).toBe('put');
      expect(contentOf(dir)).toEqual(FILES);
      expect(await put(snapshot(), dir)).toBe('up_to_date');
    });
  });
});

describe('the files', () => {
  test('are the snapshot’s own by hard link, read-only, in directories that all may read', async () => {
    const [from, dir] = [snapshot(), join(directory(), 'model')];
    const umask = process.umask(0o077);
    onTestFinished(() => void process.umask(umask));
    await put(from, dir);
    const file = lstatSync(join(dir, 'data/model.pkl'));
    expect(file.ino).toBe(lstatSync(join(from, 'data/model.pkl')).ino);
    expect(file.mode & 0o777).toBe(0o444);
    for (const path of ['', 'data', 'data/deep']) expect(lstatSync(join(dir, path)).mode & 0o777).toBe(0o755);
  });

  test('are copies where a link cannot be, read-only all the same', async () => {
    const elsewhere = directory(existsSync('/dev/shm') ? '/dev/shm' : tmpdir());
    const [from, dir] = [snapshot(), join(elsewhere, 'model')];
    for (const path of Object.keys(FILES)) chmodSync(join(from, path), 0o644);
    expect(await put(from, dir)).toBe('put');
    expect(contentOf(dir)).toEqual(FILES);
    const [file, source] = [lstatSync(join(dir, 'MLmodel')), lstatSync(join(from, 'MLmodel'))];
    if (file.dev !== source.dev) expect(file.mode & 0o777).toBe(0o444);
  });
});

describe('what is there already', () => {
  test('the very same files are up to date, whoever put them there', async () => {
    const dir = write(directory(), FILES, 0o644);
    expect(await put(snapshot(), dir)).toBe('up_to_date');
  });

  const others: readonly [string, (dir: string) => void][] = [
    ['another file', dir => write(dir, { ...FILES, 'mine.txt': 'x' })],
    ['other content of the same size', dir => write(dir, { ...FILES, 'data/model.pkl': 'BYTES' })],
    ['another size', dir => write(dir, { ...FILES, MLmodel: '' })],
    ['a part of a directory', dir => write(dir, { 'data/model.pkl': FILES['data/model.pkl'] })],
    ['a link', dir => symlinkSync('/etc/hostname', join(dir, 'MLmodel'))],
    ['an empty directory', dir => mkdirSync(join(dir, 'data'))],
    ['a hidden file', dir => write(dir, { '.keep': '' })],
    ['a file that is called like our own', dir => write(dir, { '.tmp-x': '' })],
  ];
  test.each(others)('%s is refused and left alone', async (_case, make) => {
    const dir = directory();
    make(dir);
    const before = readdirSync(dir, { recursive: true });
    await expect(put(snapshot(), dir)).rejects.toThrow(/holds something else, and is never overwritten/);
    expect(readdirSync(dir, { recursive: true })).toEqual(before);
  });

  test('a file is no directory', async () => {
    const path = join(write(directory(), { x: '' }), 'x');
    await expect(put(snapshot(), path)).rejects.toThrow(CommandFailure);
  });

  test('what an interrupted fetch had moved into a mount point is completed', async () => {
    await inMount(async dir => {
      write(dir, { 'conda.yaml': '', '.tmp-0123456789abcdef/MLmodel': 'old' });
      expect(await put(snapshot(), dir)).toBe('put');
      expect(contentOf(dir)).toEqual(FILES);
    });
  });

  test('leftovers beside the directory are removed, and nothing else', async () => {
    const parent = directory();
    write(parent, {
      'model.tmp-0123456789abcdef/x': '',
      'model.tmp-mine/x': '',
      'other.tmp-0123456789abcdef/x': '',
    });
    await put(snapshot(), join(parent, 'model'));
    expect(readdirSync(parent).toSorted()).toEqual(['model', 'model.tmp-mine', 'other.tmp-0123456789abcdef']);
  });
});

test('a directory for a cache lies on the file system of the target, beside it or in a mount point', async () => {
  const dir = join(directory(), 'model');
  const aside = await makeAside(await prepareTarget(dir));
  expect(dirname(aside)).toBe(dirname(dir));
  await inMount(async mount => {
    const inside = await makeAside(await prepareTarget(mount));
    expect(dirname(inside)).toBe(mount);
    rmSync(inside, { recursive: true });
  });
});

test('a signal stops it, and nothing is left', async () => {
  const parent = directory();
  await expect(put(snapshot(), join(parent, 'model'), AbortSignal.abort(new Error('stop')))).rejects.toThrow(
    'stop',
  );
  expect(readdirSync(parent)).toEqual([]);
});
