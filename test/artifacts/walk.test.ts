import { describe, expect, test } from 'vitest';
import { childOf, ROOT } from '../../src/artifacts/paths.ts';
import type { Entry } from '../../src/artifacts/source.ts';
import { walk } from '../../src/artifacts/walk.ts';
import { call } from '../upstream/support.ts';
import { dir, file, Scripted } from './support.ts';

async function walked(...listings: readonly Readonly<Record<string, readonly Entry[]>>[]) {
  const sources = listings.map((listing, at) => new Scripted(listing, undefined, `root-${at}`));
  const files = await walk(sources, call());
  return files
    .map(({ path, size, source }) => [path, size, source.root])
    .toSorted((a, b) => (String(a) < String(b) ? -1 : 1));
}

test('everything below is found, level by level, with its size', async () => {
  const listing = {
    '': [file('MLmodel', 12), dir('data'), dir('empty')],
    data: [file('x', 0), dir('deep')],
    'data/deep': [file('y', null)],
  };
  expect(await walked(listing)).toEqual([
    ['MLmodel', 12, 'root-0'],
    ['data/deep/y', null, 'root-0'],
    ['data/x', 0, 'root-0'],
  ]);
});

describe('of two layers', () => {
  test('the later one’s files win, and both are whole', async () => {
    const run = { '': [file('MLmodel', 1), file('run-only', 2), dir('data')], data: [file('x', 3)] };
    const model = { '': [file('MLmodel', 10), dir('data')], data: [file('x', 30), file('y', 40)] };
    expect(await walked(run, model)).toEqual([
      ['MLmodel', 10, 'root-1'],
      ['data/x', 30, 'root-1'],
      ['data/y', 40, 'root-1'],
      ['run-only', 2, 'root-0'],
    ]);
  });

  test('one may be empty', async () => {
    expect(await walked({}, { '': [file('MLmodel')] })).toEqual([['MLmodel', 1, 'root-1']]);
    expect(await walked({ '': [file('MLmodel')] }, {})).toEqual([['MLmodel', 1, 'root-0']]);
  });

  test.each([
    ['file, then directory', { '': [file('MLmodel'), file('a')] }, { '': [dir('a')], a: [file('b')] }],
    ['directory, then file', { '': [file('MLmodel'), dir('a')], a: [file('b')] }, { '': [file('a')] }],
    [
      'deeper',
      { '': [file('MLmodel'), dir('d')], d: [dir('a')], 'd/a': [file('b')] },
      { '': [dir('d')], d: [file('a')] },
    ],
  ])('one name that is both is unsafe_path: %s', async (_, one, other) => {
    await expect(walked(one, other)).rejects.toMatchObject({
      code: 'unsafe_path',
      message: expect.stringContaining('is a file and a directory'),
    });
  });
});

describe('a name that could leave its directory is unsafe_path', () => {
  test.each([
    '',
    '.',
    '..',
    '/etc/passwd',
    '../x',
    'a/../../x',
    'a/b',
    'a\\b',
    '..\\x',
    'a\0b',
    'a\r\nb',
    'a\u007f',
    'n'.repeat(256),
    '模'.repeat(86),
  ])('%j', async name => {
    for (const entry of [file(name), dir(name)]) {
      await expect(walked({ '': [file('MLmodel'), entry] })).rejects.toMatchObject({
        code: 'unsafe_path',
        hint: expect.stringContaining('Nothing of this version was published'),
      });
      await expect(walked({ '': [file('MLmodel'), dir('d')], d: [entry] })).rejects.toMatchObject({
        code: 'unsafe_path',
      });
    }
  });
});

test.each(['...', '..a', 'a..', ' ', '%2e%2e', '-rf', '~', 'C:', 'ü', 'n'.repeat(255), 'con', '__proto__'])(
  'the name %j is only a name',
  async name => {
    expect((await walked({ '': [file('MLmodel'), file(name)] })).map(([path]) => path)).toContain(name);
  },
);

describe('a name that comes twice is unsafe_path', () => {
  test.each([
    ['two files', [file('a'), file('a')]],
    ['two directories', [dir('a'), dir('a')]],
    ['one of each', [file('a'), dir('a')]],
  ])('%s', async (_, entries) => {
    await expect(walked({ '': [file('MLmodel'), ...entries] })).rejects.toMatchObject({
      code: 'unsafe_path',
      message: expect.stringContaining('twice'),
    });
  });
});

test('64 levels are taken and the 65th is unsafe_path, so that a circle of directories ends', async () => {
  const circle = new Scripted(path => (path === '' ? [file('MLmodel'), dir('d')] : [dir('d')]));
  await expect(walk([circle], call())).rejects.toMatchObject({ code: 'unsafe_path' });
  expect(circle.listed).toHaveLength(65);
  const deep = Array.from({ length: 64 }, () => 'd').reduce(childOf, ROOT);
  expect(deep.path.split('/')).toHaveLength(64);
});

test('50,000 entries are taken and one more is unsafe_path', async () => {
  const entries = [file('MLmodel'), ...Array.from({ length: 49_999 }, (_, n) => file(`f${n}`))];
  expect(await walk([new Scripted({ '': entries })], call())).toHaveLength(50_000);
  await expect(walk([new Scripted({ '': [...entries, file('one more')] })], call())).rejects.toMatchObject({
    code: 'unsafe_path',
    message: expect.stringContaining('50000'),
  });
});

test('directories that multiply without end are given up', async () => {
  const branching = new Scripted(path => [
    ...(path === '' ? [file('MLmodel')] : []),
    ...Array.from({ length: 100 }, (_, n) => dir(`d${n}`)),
  ]);
  await expect(walk([branching], call())).rejects.toMatchObject({ code: 'unsafe_path' });
  expect(branching.listed.length).toBeLessThan(20_000);
});

describe('what is no model is artifact_missing', () => {
  test('nothing at all', async () => {
    await expect(walked({})).rejects.toMatchObject({ code: 'artifact_missing', message: /no artifacts/ });
    await expect(walked({ '': [dir('a')] })).rejects.toMatchObject({ code: 'artifact_missing' });
  });

  test.each([
    ['no MLmodel', { '': [file('model.pkl')] }],
    ['an MLmodel further down', { '': [dir('model')], model: [file('MLmodel')] }],
    ['an MLmodel that is a directory', { '': [dir('MLmodel')], MLmodel: [file('x')] }],
    ['an mlmodel', { '': [file('mlmodel')] }],
  ])('%s', async (_, listing) => {
    await expect(walked(listing)).rejects.toMatchObject({ code: 'artifact_missing', message: /no MLmodel/ });
  });
});

test('at most 16 directories are asked for at once', async () => {
  let now = 0;
  let most = 0;
  const source = new Scripted(path =>
    path === '' ? [file('MLmodel'), ...Array.from({ length: 60 }, (_, n) => dir(`d${n}`))] : [],
  );
  const slow = {
    root: 'r',
    open: source.open.bind(source),
    read: source.read.bind(source),
    list: async (path: string) => {
      most = Math.max(most, ++now);
      await new Promise(resolve => setTimeout(resolve, 2));
      now--;
      return await source.list(path);
    },
  };
  await walk([slow], call());
  expect(most).toBe(16);
});

test('paths that take more than 16 MiB together are unsafe_path, and what is too large is said', async () => {
  const long = 'd'.repeat(250);
  // Seven deep, so that each path is 2,000 bytes long.
  const source = new Scripted(path => {
    if (path.split('/').length < 7) return [...(path === '' ? [file('MLmodel')] : []), dir(long)];
    return Array.from({ length: 10_000 }, (_, n) => file(`${n}`.padEnd(240, 'f')));
  });
  await expect(walk([source], call())).rejects.toMatchObject({
    code: 'unsafe_path',
    message: expect.stringMatching(/paths .* more than 16 MiB/),
  });
});

test('50,000 files 62 directories deep are walked in many turns of the event loop', async () => {
  let turns = 0;
  let isOver = false;
  const count = () => {
    turns += 1;
    if (!isOver) setImmediate(count);
  };
  const files = Array.from({ length: 49_900 }, (_, n) => file(`f${n}`));
  const source = new Scripted(path => {
    if (path.split('/').length < 62) return [...(path === '' ? [file('MLmodel')] : []), dir('dddd')];
    return files;
  });
  setImmediate(count);
  expect(await walk([source], call())).toHaveLength(49_901);
  isOver = true;
  // One for each level, were it not for the yields; in one turn the paths were split 50,000 times.
  expect(turns).toBeGreaterThan(3);
});
