import { execFile } from 'node:child_process';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { parseModelUri } from '../../src/domain/model-uri.ts';
import { scopeOf } from '../../src/domain/scope.ts';
import type { Published } from '../../src/store/records/ref-record.ts';
import { fileIn, flip, OF_CONTENT, OF_NAME, scrub, unshare } from './damage.ts';
import { commitAll, fetched, filesBelow, type Opened, OWN, ofVersion, openStore, reopen } from './support.ts';

const URI = parseModelUri('models:/churn/Production');
const LINK = 'v1/models/churn/Production';
const RECORD = 'v1/refs/churn/Production.json';
const NOTHING = { published: null, confirmedAt: null };

interface Filled extends Opened {
  readonly published: Published;
}

async function withOneVersion(): Promise<Filled> {
  const opened = await openStore();
  const published = await fetched(opened.store, '1');
  await opened.store.refs.publish(OWN, URI, published, 1, Date.now());
  return { ...opened, published };
}

/** Nothing in the directory names or holds the snapshot outside the quarantine. */
async function expectGone({ dir, store, published }: Filled): Promise<void> {
  expect(store.refs.get(OWN, URI)).toMatchObject(NOTHING);
  expect(await store.hasSnapshot(published.snapshot)).toBe(false);
  expect(await store.find(OWN, ofVersion([published.version.source]))).toBeNull();
  expect(await filesBelow(join(dir, 'v1/models'))).toEqual([]);
  expect(await filesBelow(store.layout.manifests)).toEqual([]);
  expect(JSON.parse(await readFile(join(dir, RECORD), 'utf8'))).toMatchObject({
    snapshot: null,
    published: null,
  });
}

test('a cache without damage is read once, shared files included, and nothing changes', async () => {
  const opened = await withOneVersion();
  await fetched(opened.store, '2');
  const before = await filesBelow(opened.dir);
  expect(await scrub(opened.store)).toEqual({
    files: 3,
    bytes: 2 * 'version: 1\n'.length + 'shared'.length,
    damaged: 0,
    harms: [],
  });
  expect(await filesBelow(opened.dir)).toEqual(before);
  expect(opened.store.refs.get(OWN, URI).published).toEqual(opened.published);
});

describe('a damaged file of a snapshot: nobody gets it any more, and it is fetched as if never there', () => {
  test.each(Object.entries(OF_CONTENT))('that %s', async (found, damage) => {
    const opened = await withOneVersion();
    const { store, published } = opened;
    await damage(fileIn(store, published.snapshot, 'MLmodel'));
    const { damaged, harms } = await scrub(store);
    expect(damaged).toBe(1);
    expect(harms).toEqual([
      expect.objectContaining({
        snapshots: [published.snapshot],
        modelUris: ['models:/churn/Production'],
        damages: [
          {
            path: `snapshots/${published.snapshot}/MLmodel`,
            expected: { sha256: expect.stringMatching(/^[0-9a-f]{64}$/), size: 11 },
            found: expect.stringMatching(new RegExp(`^${found}`)),
            isUnreadable: false,
          },
        ],
      }),
    ]);
    await expectGone(opened);
    const again = await fetched(store, '1');
    await store.refs.publish(OWN, URI, again, 2, Date.now());
    expect(again).toEqual(published);
    expect(await readFile(join(opened.dir, LINK, 'MLmodel'), 'utf8')).toBe('version: 1\n');
    expect(await scrub(store)).toMatchObject({ damaged: 0 });
  });
});

describe('damage in a snapshot alone: it is made anew from its blobs, without MLflow', () => {
  /** The same snapshot is published as before, and whole. */
  async function expectRebuilt(opened: Filled, path: string): Promise<void> {
    const { dir, store, published } = opened;
    const before = store.refs.get(OWN, URI);
    const { damaged, harms } = await scrub(store);
    expect(damaged).toBe(1);
    expect(harms[0]).toMatchObject({ snapshots: [published.snapshot], blobs: [] });
    expect(harms[0]?.damages[0]?.path).toBe(`snapshots/${published.snapshot}/${path}`);
    expect(store.refs.get(OWN, URI)).toEqual(before);
    expect(await readdir(store.layout.quarantine)).toEqual([published.snapshot]);
    expect(await filesBelow(join(dir, LINK))).toEqual(['MLmodel', 'data/model.pkl']);
    expect(await readFile(join(dir, LINK, 'MLmodel'), 'utf8')).toBe('version: 1\n');
    expect(await store.find(OWN, ofVersion([published.version.source]))).not.toBeNull();
    expect(await scrub(store)).toMatchObject({ damaged: 0 });
    expect((await reopen(opened)).store.refs.get(OWN, URI)).toEqual(before);
  }

  test.each(Object.entries(OF_NAME))('a file that %s', async (_found, damage) => {
    const opened = await withOneVersion();
    await damage(fileIn(opened.store, opened.published.snapshot, 'MLmodel'));
    await expectRebuilt(opened, 'MLmodel');
  });

  test('a file that does not belong there', async () => {
    const opened = await withOneVersion();
    await mkdir(fileIn(opened.store, opened.published.snapshot, 'data/__pycache__'));
    await writeFile(fileIn(opened.store, opened.published.snapshot, 'data/__pycache__/extra.pyc'), 'x');
    await expectRebuilt(opened, 'data/__pycache__/extra.pyc');
  });

  test('what is published meanwhile stays', async () => {
    const { store, published } = await withOneVersion();
    const newer = await fetched(store, '2');
    await rm(fileIn(store, published.snapshot, 'MLmodel'));
    await scrub(store, undefined, async harm => {
      const done = store.quarantine(harm);
      await store.refs.publish(OWN, URI, newer, 2, Date.now());
      await done;
    });
    expect(store.refs.get(OWN, URI).published).toEqual(newer);
  });

  test('one that was not confirmed lately, or refused, is so still', async () => {
    const { store, published } = await withOneVersion();
    await store.refs.publish(OWN, URI, published, 2, 1_000);
    store.refs.note(OWN, URI, { refusedAt: 2_000 });
    await rm(fileIn(store, published.snapshot, 'MLmodel'));
    await scrub(store);
    expect(store.refs.get(OWN, URI)).toMatchObject({ published, confirmedAt: 1_000, refusedAt: 2_000 });
  });
});

describe('a blob that is damaged', () => {
  test('goes to the quarantine under its digest, with its snapshot', async () => {
    const { store, published } = await withOneVersion();
    await flip(fileIn(store, published.snapshot, 'MLmodel'));
    const { harms } = await scrub(store);
    const [sha256 = ''] = harms[0]?.blobs ?? [];
    expect((await readdir(store.layout.quarantine)).toSorted()).toEqual(
      [published.snapshot, sha256].toSorted(),
    );
    expect(await readFile(join(store.layout.quarantine, sha256), 'utf8')).toBe('wersion: 1\n');
    expect(await filesBelow(store.layout.blobs)).toHaveLength(1);
  });

  test('takes every snapshot with it that shares it, at once, and no other', async () => {
    const opened = await withOneVersion();
    const { store, published } = opened;
    const other = await fetched(store, '2');
    const alias = parseModelUri('models:/churn@champion');
    await store.refs.publish(OWN, alias, other, 2, Date.now());
    const third = await commitAll(store, { MLmodel: 'of its own' }, ['mlflow-artifacts:/0/third']);
    await flip(fileIn(store, published.snapshot, 'data/model.pkl'));
    const { damaged, harms } = await scrub(store);
    expect({ damaged, times: harms.length }).toEqual({ damaged: 1, times: 1 });
    expect(harms[0]?.snapshots.toSorted()).toEqual([published.snapshot, other.snapshot].toSorted());
    expect(harms[0]?.modelUris.toSorted()).toEqual(['models:/churn/Production', 'models:/churn@champion']);
    expect(store.refs.get(OWN, alias)).toMatchObject(NOTHING);
    expect(await readdir(store.layout.snapshots)).toEqual([third.snapshot]);
  });

  test('that no snapshot shares goes alone, where each has a copy of its own', async () => {
    const { store, published } = await withOneVersion();
    for (const path of ['MLmodel', 'data/model.pkl']) await unshare(fileIn(store, published.snapshot, path));
    const [blob = ''] = await filesBelow(store.layout.blobs);
    await flip(join(store.layout.blobs, blob));
    const { harms, files } = await scrub(store);
    expect(harms).toMatchObject([{ snapshots: [], blobs: [blob.slice(3)], modelUris: [] }]);
    expect(files).toBeGreaterThanOrEqual(4);
    expect(store.refs.get(OWN, URI).published).toEqual(published);
    expect(await filesBelow(store.layout.blobs)).toHaveLength(1);
  });
});

test('refs of every scope stop giving it', async () => {
  const { store } = await openStore();
  const callers = scopeOf('http://mlflow:5000', null, 'Bearer x');
  const published = await fetched(store, '1', callers);
  await store.refs.publish(callers, URI, published, 1, Date.now());
  await flip(fileIn(store, published.snapshot, 'MLmodel'));
  await scrub(store);
  expect(store.refs.get(callers, URI)).toMatchObject(NOTHING);
});

test('a version whose record was replaced, but which a ref still gives, is checked by its digest', async () => {
  const opened = await withOneVersion();
  const { store, published } = opened;
  const root = [published.version.source] as const;
  await commitAll(store, { MLmodel: 'logged again' }, root);
  expect(await scrub(store)).toMatchObject({ damaged: 0 });
  await unshare(fileIn(store, published.snapshot, 'MLmodel'));
  await flip(fileIn(store, published.snapshot, 'MLmodel'));
  const { harms } = await scrub(store);
  expect(harms).toMatchObject([{ snapshots: [published.snapshot], modelUris: ['models:/churn/Production'] }]);
  expect(harms[0]?.damages[0]?.found).toMatch(/^has the digest sha256:\w+ instead of sha256:/);
  expect(store.refs.get(OWN, URI)).toMatchObject(NOTHING);
  expect(await store.find(OWN, ofVersion(root))).not.toBeNull();
});

test('a snapshot that is collected meanwhile is no damage', async () => {
  const { store, published } = await withOneVersion();
  await rm(store.layout.snapshot(published.snapshot), { recursive: true });
  expect(await scrub(store)).toMatchObject({ damaged: 0, harms: [] });
});

test('what is being built is not looked at', async () => {
  const { store } = await withOneVersion();
  const [lease = ''] = await readdir(store.layout.tmp);
  await mkdir(join(store.layout.tmp, lease, 'building'));
  await writeFile(join(store.layout.tmp, lease, 'building', 'MLmodel'), 'half');
  expect(await scrub(store)).toMatchObject({ damaged: 0, files: 2 });
});

test('a signal ends the pass', async () => {
  const { store } = await withOneVersion();
  await expect(scrub(store, AbortSignal.abort(new Error('enough')))).rejects.toThrow('enough');
});

test('a pipe in a file’s place is damage, and nothing waits for it', async () => {
  const { store, published } = await withOneVersion();
  const path = fileIn(store, published.snapshot, 'MLmodel');
  await rm(path);
  await promisify(execFile)('mkfifo', [path]);
  const { harms } = await scrub(store);
  expect(harms[0]?.damages).toMatchObject([{ found: 'is not a file' }]);
});

test('what was withdrawn is not published again by a run that had it in hand', async () => {
  const { store, published } = await withOneVersion();
  await flip(fileIn(store, published.snapshot, 'MLmodel'));
  await scrub(store);
  await expect(store.refs.publish(OWN, URI, published, 2, Date.now())).rejects.toMatchObject({
    code: 'artifact_corrupt',
  });
  const after = await reopen({ store, dir: dirname(store.layout.root), events: [] });
  expect(after.store.refs.get(OWN, URI)).toMatchObject(NOTHING);
});
