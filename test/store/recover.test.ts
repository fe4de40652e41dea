import {
  lstat,
  mkdir,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  symlink,
  unlink,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parseModelUri } from '../../src/domain/model-uri.ts';
import { type Scope, scopeOf } from '../../src/domain/scope.ts';
import type { Published } from '../../src/store/records/ref-record.ts';
import { fetched, filesBelow, type Opened, OWN, ofVersion, openStore, reopen } from './support.ts';

const URI = parseModelUri('models:/churn/Production');
const LINK = 'v1/models/churn/Production';
const RECORD = 'v1/refs/churn/Production.json';
const OTHER = scopeOf('http://another:5000', null, null);

interface Filled extends Opened {
  readonly published: Published;
}

async function withOneVersion(dir?: string, own: Scope = OWN, version = '1'): Promise<Filled> {
  const opened = await openStore(dir, own);
  const published = await fetched(opened.store, version, own);
  await opened.store.refs.publish(own, URI, published, 1, Date.now());
  return { ...opened, published };
}

function recovered({ events }: Opened) {
  const found = events.find(event => event.type === 'cache_recovered');
  if (found === undefined) throw new Error('nothing was told of the recovery');
  return found;
}

test('a directory that is not there yet is made', async () => {
  const { dir } = await openStore();
  const deep = join(dir, 'a/b/c');
  const opened = await openStore(deep);
  expect(recovered(opened)).toEqual({ type: 'cache_recovered', refs: 0, swept: 0, dropped: [] });
  expect((await readdir(join(deep, 'v1'))).toSorted()).toEqual([
    'blobs',
    'models',
    'refs',
    'snapshots',
    'state',
    'tmp',
  ]);
});

test('a file in the place of the directory is an error and not a crash', async () => {
  const { dir } = await openStore();
  await writeFile(join(dir, 'file'), '');
  await expect(openStore(join(dir, 'file'))).rejects.toThrow(/EEXIST|ENOTDIR/);
});

test('what another release of the layout left beside it stays', async () => {
  const opened = await withOneVersion();
  await mkdir(join(opened.dir, 'v2'));
  await writeFile(join(opened.dir, 'v2/anything'), '');
  await reopen(opened);
  expect(await filesBelow(join(opened.dir, 'v2'))).toEqual(['anything']);
});

describe('a record that is damaged is thrown away with its link', () => {
  test.each([
    ['empty', () => ''],
    ['cut', (text: string) => text.slice(0, text.length / 2)],
    ['not JSON', () => 'hello'],
    ['of another format', (text: string) => text.replace('"format": 1', '"format": 2')],
    [
      'with a URI that is none',
      (text: string) => text.replace('models:/churn/Production', 'models:/../../etc'),
    ],
    ['with a scope that is none', (text: string) => text.replace(OWN.id, '../../../x')],
    [
      'with a snapshot elsewhere',
      (text: string) => text.replaceAll(/"[0-9a-f]{32}"(?=,\n {4}"digest")/g, '"../../etc"'),
    ],
  ])('%s', async (_, damage) => {
    const opened = await withOneVersion();
    const path = join(opened.dir, RECORD);
    const text = await readFile(path, 'utf8');
    await rm(path);
    await writeFile(path, damage(text));
    expect(damage(text)).not.toBe(text);
    const after = await reopen(opened);
    expect(after.store.refs.get(OWN, URI).published).toBeNull();
    expect(recovered(after)).toMatchObject({ refs: 0, dropped: ['refs/churn/Production.json'] });
    expect(await filesBelow(join(opened.dir, 'v1/models'))).toEqual([]);
    expect(await filesBelow(join(opened.dir, 'v1/refs'))).toEqual([]);
    expect(await after.store.find(OWN, ofVersion([opened.published.version.source]))).not.toBeNull();
  });
});

test('a record whose snapshot is gone publishes nothing, and is told', async () => {
  const opened = await withOneVersion();
  await rm(opened.store.layout.snapshot(opened.published.snapshot), { recursive: true });
  const after = await reopen(opened);
  expect(after.store.refs.get(OWN, URI)).toMatchObject({ published: null, confirmedAt: null });
  expect(recovered(after).dropped).toEqual(['refs/churn/Production.json']);
  expect(await filesBelow(join(opened.dir, 'v1/models'))).toEqual([]);
});

describe('a link follows its record', () => {
  test('where it points to an older snapshot, as after a crash between the two', async () => {
    const opened = await withOneVersion();
    const older = await fetched(opened.store, '0');
    await unlink(join(opened.dir, LINK));
    await symlink(`../../snapshots/${older.snapshot}`, join(opened.dir, LINK));
    await reopen(opened);
    expect(await readlink(join(opened.dir, LINK))).toBe(`../../snapshots/${opened.published.snapshot}`);
  });

  test('where it is not there', async () => {
    const opened = await withOneVersion();
    await rm(join(opened.dir, 'v1/models/churn'), { recursive: true });
    await reopen(opened);
    expect(await readlink(join(opened.dir, LINK))).toBe(`../../snapshots/${opened.published.snapshot}`);
  });

  test('where it is absolute or leads out', async () => {
    const opened = await withOneVersion();
    await unlink(join(opened.dir, LINK));
    await symlink('/etc', join(opened.dir, LINK));
    await reopen(opened);
    expect(await readlink(join(opened.dir, LINK))).toBe(`../../snapshots/${opened.published.snapshot}`);
  });

  test('and a good one is not touched', async () => {
    const opened = await withOneVersion();
    const { ino, ctimeMs } = await lstat(join(opened.dir, LINK));
    await reopen(opened);
    expect(await lstat(join(opened.dir, LINK))).toMatchObject({ ino, ctimeMs });
  });
});

test('a link without a record is removed, and what it points to stays', async () => {
  const opened = await withOneVersion();
  await symlink('../../snapshots', join(opened.dir, 'v1/models/churn/@stray'));
  await reopen(opened);
  expect(await readdir(join(opened.dir, 'v1/models/churn'))).toEqual(['Production']);
  expect(await readdir(join(opened.dir, 'v1/snapshots'))).toEqual([opened.published.snapshot]);
});

describe('another registry in the configuration', () => {
  test('sees nothing of the one before', async () => {
    const opened = await withOneVersion();
    const { store } = await reopen(opened, OTHER);
    expect(store.refs.all(OTHER)).toEqual([]);
    expect(await filesBelow(join(opened.dir, 'v1/models'))).toEqual([]);
    expect(await filesBelow(join(opened.dir, 'v1/refs'))).toEqual([]);
    expect(await filesBelow(join(opened.dir, 'v1/state/scopes'))).toEqual([
      `${OWN.id}/churn/Production.json`,
    ]);
  });

  test('and back again, finds what it had, and both keep their own', async () => {
    const first = await withOneVersion();
    await first.store.close();
    const second = await withOneVersion(first.dir, OTHER, '7');
    expect(await readlink(join(first.dir, LINK))).toContain(second.published.snapshot);
    const third = await reopen(second, OWN);
    expect(third.store.refs.get(OWN, URI).published).toEqual(first.published);
    expect(await readlink(join(first.dir, LINK))).toContain(first.published.snapshot);
    const fourth = await reopen(third, OTHER);
    expect(fourth.store.refs.get(OTHER, URI).published).toEqual(second.published);
    expect(await readlink(join(first.dir, LINK))).toContain(second.published.snapshot);
  });

  test('does not count a ref twice', async () => {
    const first = await withOneVersion();
    await first.store.close();
    const second = await withOneVersion(first.dir, OTHER, '7');
    const third = await reopen(second, OWN);
    const fourth = await reopen(third, OTHER);
    expect(recovered(fourth).refs).toBe(2);
  });

  test('moves a record to the place of its own URI, wherever it lay', async () => {
    const opened = await withOneVersion();
    await mkdir(join(opened.dir, 'v1/refs/elsewhere'));
    await rename(join(opened.dir, RECORD), join(opened.dir, 'v1/refs/elsewhere/x.json'));
    const { store } = await reopen(opened);
    expect(store.refs.get(OWN, URI).published).toEqual(opened.published);
    expect(await filesBelow(join(opened.dir, 'v1/refs'))).toEqual(['churn/Production.json']);
  });
});
