import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { CommandFailure } from '../../src/cli/failure.ts';
import { MARKER } from '../../src/cli/marker.ts';
import { makeAside, prepareTarget } from '../../src/cli/target.ts';
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
      expect(readdirSync(dir).toSorted()).toEqual([MARKER, 'MLmodel', 'conda.yaml', 'data']);
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

  test('are copies where the cache is kept, so that a write to one does not change it', async () => {
    const [from, dir] = [snapshot(), join(directory(), 'model')];
    chmodSync(join(from, 'MLmodel'), 0o644);
    await put(from, dir, { mayLink: false });
    const file = lstatSync(join(dir, 'MLmodel'));
    expect(file.ino).not.toBe(lstatSync(join(from, 'MLmodel')).ino);
    expect(file.mode & 0o777).toBe(0o444);
    chmodSync(join(dir, 'MLmodel'), 0o644);
    writeFileSync(join(dir, 'MLmodel'), 'changed');
    expect(contentOf(from)).toEqual(FILES);
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

describe('what an earlier fetch put there', () => {
  const NEW = { MLmodel: 'flavors: {new}\n', 'data/other.pkl': 'new', 'model.py': '' };
  const next = (dir: string) => put(snapshot(NEW), dir, { version: '2' });

  test('is replaced by another version, and nothing else stays', async () => {
    const parent = directory();
    const dir = join(parent, 'model');
    await put(snapshot(), dir);
    expect(await next(dir)).toBe('put');
    expect(contentOf(dir)).toEqual(NEW);
    expect(await next(dir)).toBe('up_to_date');
    expect(readdirSync(parent)).toEqual(['model']);
  });

  test('is replaced in a mount point too, which stays what it is', async () => {
    await inMount(async dir => {
      mkdirSync(join(dir, 'lost+found'));
      const before = lstatSync(dir).ino;
      await put(snapshot(), dir);
      expect(await next(dir)).toBe('put');
      expect(contentOf(dir)).toEqual(NEW);
      expect(readdirSync(dir).toSorted()).toEqual([MARKER, 'MLmodel', 'data', 'lost+found', 'model.py']);
      expect(lstatSync(dir).ino).toBe(before);
    });
  });

  test('is finished, or replaced, where files are missing', async () => {
    const dir = join(directory(), 'model');
    await put(snapshot(), dir);
    for (const path of ['MLmodel', 'data']) rmSync(join(dir, path), { recursive: true });
    expect(await put(snapshot(), dir)).toBe('put');
    expect(contentOf(dir)).toEqual(FILES);
    rmSync(join(dir, 'MLmodel'));
    expect(await next(dir)).toBe('put');
    expect(contentOf(dir)).toEqual(NEW);
  });

  const touched: readonly [string, (dir: string) => void, RegExp][] = [
    ['a file of somebody’s', dir => write(dir, { 'mine.txt': 'x' }), /holds something else \(mine.txt\)/],
    ['a link of somebody’s', dir => symlinkSync('MLmodel', join(dir, 'mine')), /something else \(mine\)/],
    [
      'a file that was changed',
      dir => {
        rmSync(join(dir, 'data/model.pkl'));
        write(dir, { 'data/model.pkl': 'BYTES' });
      },
      /something else \(data\/model.pkl\)/,
    ],
    [
      'a marker that is none',
      dir => {
        rmSync(join(dir, MARKER));
        write(dir, { [MARKER]: '{}' });
      },
      /something else/,
    ],
  ];
  test.each(touched)('is refused and left alone with %s', async (_case, touch, words) => {
    const dir = join(directory(), 'model');
    await put(snapshot(), dir);
    touch(dir);
    const before = contentOf(dir);
    await expect(next(dir)).rejects.toThrow(words);
    expect(contentOf(dir)).toEqual(before);
  });

  test('is refused where it is of another URI', async () => {
    const dir = join(directory(), 'model');
    await put(snapshot(), dir);
    const other = put(snapshot(NEW), dir, { uri: 'models:/b/1' });
    await expect(other).rejects.toThrow(/holds models:\/a\/Production of an earlier fetch, and is never/);
    expect(contentOf(dir)).toEqual(FILES);
  });

  test('a model that was logged from such a directory, with its marker, gets one of its own', async () => {
    const dir = join(directory(), 'model');
    expect(await put(snapshot({ ...FILES, [MARKER]: 'theirs' }), dir)).toBe('put');
    expect(await put(snapshot({ ...FILES, [MARKER]: 'theirs' }), dir)).toBe('up_to_date');
    expect(contentOf(dir)).toEqual(FILES);
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
  await expect(
    put(snapshot(), join(parent, 'model'), { signal: AbortSignal.abort(new Error('stop')) }),
  ).rejects.toThrow('stop');
  expect(readdirSync(parent)).toEqual([]);
});
