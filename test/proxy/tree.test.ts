import { describe, expect, test } from 'vitest';
import { listingAnswer, noSuchArtifact, type TreeFile } from '../../src/proxy/tree.ts';

function files(...paths: readonly string[]): readonly TreeFile[] {
  return paths.map((path, size) => ({ path, size }));
}

async function listed(all: readonly TreeFile[], dir: string): Promise<unknown> {
  return JSON.parse((await listingAnswer(all, dir, 'store')).text);
}

const MODEL = files(
  'MLmodel',
  'model.pkl',
  'data/weights.bin',
  'data/deep/er/x',
  'database',
  'data-2/y',
  '__proto__/z',
);

describe('a listing', () => {
  test('is one level, by name, with sizes of files alone', async () => {
    expect(await listed(MODEL, '')).toEqual({
      files: [
        { path: 'MLmodel', is_dir: false, file_size: 0 },
        { path: '__proto__', is_dir: true },
        { path: 'data', is_dir: true },
        { path: 'data-2', is_dir: true },
        { path: 'database', is_dir: false, file_size: 4 },
        { path: 'model.pkl', is_dir: false, file_size: 1 },
      ],
    });
  });

  test('names what is in a directory relative to it', async () => {
    expect(await listed(MODEL, 'data')).toEqual({
      files: [
        { path: 'deep', is_dir: true },
        { path: 'weights.bin', is_dir: false, file_size: 2 },
      ],
    });
    expect(await listed(MODEL, 'data/deep/er')).toEqual({
      files: [{ path: 'x', is_dir: false, file_size: 3 }],
    });
  });

  test.each([
    'nowhere',
    'MLmodel',
    'dat',
    'data/weights.bin',
    'data/',
    '..',
    '.',
    'DATA',
    '/',
    'data/deep/er/x',
  ])('of %s is empty, as MLflow’s is', async dir => {
    expect(await listed(MODEL, dir)).toEqual({});
  });

  test('of nothing is empty', async () => {
    expect(await listed([], '')).toEqual({});
  });

  test('says no size that nobody knows', async () => {
    expect(await listed([{ path: 'a', size: null }], '')).toEqual({ files: [{ path: 'a', is_dir: false }] });
  });

  test('is an answer of now', async () => {
    const answer = await listingAnswer(MODEL, '', 'download');
    expect(answer).toMatchObject({
      status: 200,
      contentType: 'application/json',
      source: 'download',
      ageS: null,
      stale: null,
    });
  });
});

test('a file that is not there is told in MLflow’s words', async () => {
  const answer = noSuchArtifact('0/m-1/"x"', 'store');
  expect(answer).toMatchObject({ status: 404, contentType: 'application/json', source: 'store' });
  expect(JSON.parse(answer.text)).toEqual({
    error_code: 'RESOURCE_DOES_NOT_EXIST',
    message: `No such artifact: '0/m-1/"x"'`,
  });
});
