import { mkdir, readdir, readFile, realpath, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parseModelUri } from '../../src/domain/model-uri.ts';
import { scopeOf } from '../../src/domain/scope.ts';
import { NO_DEMAND } from '../../src/store/collect/collector.ts';
import { MOST_SCOPES } from '../../src/store/collect/surplus.ts';
import { pidSpace } from '../../src/store/disk/process-identity.ts';
import { Vanished } from '../../src/store/disk/vanished.ts';
import {
  blobsIn,
  HOUR_MS,
  type Limited,
  load,
  MINUTE_MS,
  openLimited,
  SIZE,
  snapshotsIn,
  URI,
} from './collect-support.ts';
import {
  bodyOf,
  commitAll,
  fetched,
  filesBelow,
  litter,
  OWN,
  ofVersion,
  takeAll,
  versionOf,
} from './support.ts';

const KIB = 1_024;
const OTHER = scopeOf('http://another:5000', null, null);
const THIRD = scopeOf('http://third:5000', null, null);

test('under a quota of three versions the last two of a ref stay, whole, and older ones make room', async () => {
  const opened = await openLimited({ maxBytes: 3 * SIZE });
  const ids: string[] = [];
  for (let version = 1; version <= 6; version++) {
    ids.push(await load(opened, version));
    opened.clock.advance(MINUTE_MS);
  }
  expect(await snapshotsIn(opened.dir)).toEqual(ids.slice(-3).toSorted());
  expect(await blobsIn(opened.dir)).toBe(3);
  expect(opened.store.space.usedBytes).toBe(3 * SIZE);
  expect(await readFile(join(opened.dir, 'v1/models/churn/Production/MLmodel'), 'utf8')).toMatch(
    /^version: 6\n/,
  );
  expect(opened.store.refs.get(OWN, URI).previous).toBe(ids.at(-2));
  const told = opened.events.filter(event => event.type === 'cache_collected');
  expect(told).toEqual(
    Array.from({ length: 3 }, () => ({
      type: 'cache_collected',
      snapshots: 1,
      freedBytes: SIZE,
      why: ['space'],
    })),
  );
  expect(await litter(opened.dir)).toEqual([]);
  expect(await readdir(join(opened.dir, 'v1/state/manifests'))).toHaveLength(3);
});

test('publishes in quick succession are not refused: what readers may have open exceeds the quota for half a minute', async () => {
  const opened = await openLimited({ maxBytes: 3 * SIZE });
  for (let version = 1; version <= 6; version++) await load(opened, version);
  expect(await snapshotsIn(opened.dir)).toHaveLength(6);
  // What was counted beside the last download is over.
  await opened.store.collector.collect(NO_DEMAND);
  opened.clock.advance(31_000);
  const { usedBytes } = await opened.store.collector.collect(NO_DEMAND);
  expect(usedBytes).toBe(3 * SIZE);
  expect(await snapshotsIn(opened.dir)).toHaveLength(3);
});

test('a version that goes back to being published is found and not fetched, as long as it is the one before', async () => {
  const opened = await openLimited({ maxBytes: 2 * SIZE });
  const first = await load(opened, 1);
  await load(opened, 2);
  opened.clock.advance(48 * HOUR_MS);
  await expect(load(opened, 3)).rejects.toThrow('no room');
  expect((await opened.store.find(OWN, ofVersion([versionOf('1').source])))?.snapshot).toBe(first);
});

test('what was superseded over a day ago goes at 80 %, though there is room', async () => {
  const opened = await openLimited({ maxBytes: 6 * SIZE });
  for (let version = 1; version <= 5; version++) await load(opened, version);
  await opened.store.collector.collect(NO_DEMAND);
  expect(await snapshotsIn(opened.dir)).toHaveLength(5);
  opened.clock.advance(25 * HOUR_MS);
  await opened.store.collector.collect(NO_DEMAND);
  expect(await snapshotsIn(opened.dir)).toHaveLength(4);
  expect(opened.events.at(-1)).toMatchObject({ type: 'cache_collected', why: ['superseded'] });
});

describe('kept is', () => {
  test('what was found again lately and is about to be published', async () => {
    const opened = await openLimited({ maxBytes: 3 * SIZE });
    const first = await load(opened, 1);
    const second = await load(opened, 2);
    await load(opened, 3);
    await load(opened, 4);
    opened.clock.advance(MINUTE_MS);
    await opened.store.find(OWN, ofVersion([versionOf('1').source]));
    await load(opened, 5);
    const left = await snapshotsIn(opened.dir);
    expect(left).toContain(first);
    expect(left).not.toContain(second);
  });

  test('what a process for another registry serves under the same name', async () => {
    const ours = await openLimited({ maxBytes: SIZE });
    const theirs = await openLimited({ maxBytes: 1e9 }, ours.dir, OTHER);
    const [one, two] = [await load(ours, 1), await load(theirs, 2, { own: OTHER })];
    ours.clock.advance(48 * HOUR_MS);
    const { shortBytes } = await ours.store.collector.collect(NO_DEMAND);
    expect(shortBytes).toBe(SIZE);
    expect(await snapshotsIn(ours.dir)).toEqual([one, two].toSorted());
    expect(await filesBelow(join(ours.dir, 'v1/state/scopes'))).toEqual([`${OWN.id}/churn/Production.json`]);
  });

  test('what a process of another host shows to readers; once it is a minute silent it goes', async () => {
    const opened = await openLimited({ maxBytes: 3 * SIZE });
    const [kept = '', gone = ''] = await Promise.all(
      [OTHER, THIRD].map((scope, n) =>
        load(opened, n, { own: { ...scope, own: false }, uri: parseModelUri('models:/churn/1') }),
      ),
    );
    const elsewhere = join(opened.store.layout.tmp, 'elsewhere');
    await mkdir(elsewhere);
    // It came after this one, which owns the cache.
    const lease = { pid: 1, space: 'another', since: Date.now() + MINUTE_MS, scope: OTHER.id };
    await writeFile(join(elsewhere, 'owner.json'), JSON.stringify(lease));
    opened.clock.advance(MINUTE_MS / 2);
    await load(opened, 2);
    await load(opened, 3);
    expect(await snapshotsIn(opened.dir)).toContain(kept);
    expect(await snapshotsIn(opened.dir)).not.toContain(gone);
    opened.clock.advance(2 * MINUTE_MS);
    await load(opened, 4);
    expect(await snapshotsIn(opened.dir)).not.toContain(kept);
  });

  test('everything, by a process that does not own the cache', async () => {
    const { dir } = await openLimited({});
    const second = await openLimited({ maxBytes: 3 * SIZE }, dir);
    for (let version = 1; version <= 3; version++) await load(second, version);
    second.clock.advance(48 * HOUR_MS);
    // The owner is asked, and may hold so much more that it removes nothing.
    await expect(load(second, 4)).rejects.toMatchObject({ code: 'disk_full' });
    expect(await snapshotsIn(dir)).toHaveLength(3);
  });

  test('what was published after the plan was made, though the plan says that it goes', async () => {
    const opened = await openLimited({ maxBytes: 3 * SIZE });
    const first = await load(opened, 1);
    const published = opened.store.refs.get(OWN, URI).published;
    for (const version of [2, 3]) await load(opened, version);
    opened.clock.advance(MINUTE_MS);
    const plan = await opened.store.collector.plan({ ...NO_DEMAND, neededBytes: SIZE });
    expect(plan.removals).toMatchObject([{ kind: 'snapshot', item: { id: first } }]);
    if (published === null) throw new Error('nothing is published');
    await opened.store.refs.publish(OWN, URI, published, 9, Date.now());
    expect(await opened.store.collector.carryOut(plan)).toMatchObject({
      usedBytes: 3 * SIZE,
      shortBytes: SIZE,
    });
    expect(await realpath(join(opened.dir, 'v1/models/churn/Production'))).toContain(first);
    expect(await readFile(join(opened.dir, 'v1/models/churn/Production/MLmodel'), 'utf8')).toMatch(
      /^version: 1\n/,
    );
    expect((await opened.store.find(OWN, ofVersion([versionOf('1').source])))?.snapshot).toBe(first);
    expect(await litter(opened.dir)).toEqual([]);
  });

  test('a content that a download found in the cache, though the last version that had it goes', async () => {
    const opened = await openLimited({ maxBytes: 3 * SIZE });
    await load(opened, 1);
    const intake = await opened.store.intake();
    const shared = { MLmodel: 'version: 1\n'.padEnd(SIZE, '.') };
    const manifest = await takeAll(intake, shared);
    for (const version of [2, 3]) await load(opened, version);
    opened.clock.advance(48 * HOUR_MS);
    await opened.store.collector.collect({ ...NO_DEMAND, neededBytes: SIZE });
    expect(await snapshotsIn(opened.dir)).toHaveLength(2);
    const { snapshot } = await opened.store.commit(
      OWN,
      ofVersion(['mlflow-artifacts:/another']),
      manifest,
      intake,
    );
    await intake.close();
    const path = join(opened.store.layout.snapshot(snapshot), 'MLmodel');
    expect(await readFile(path, 'utf8')).toBe(shared.MLmodel);
    expect(await litter(opened.dir)).toEqual([]);
  });
});

test('what a collection leaves that is killed at any point is freed by the next one at once', async () => {
  const opened = await openLimited({ maxBytes: 3 * SIZE });
  const { layout } = opened.store;
  const ids = [await load(opened, 1), await load(opened, 2), await load(opened, 3)];
  const dead = join(layout.tmp, '999999999-dead');
  await mkdir(dead);
  await writeFile(join(dead, 'owner.json'), JSON.stringify({ pid: 999_999_999, space: await pidSpace() }));
  await rename(layout.snapshot(ids[0] ?? ''), join(dead, 'aside'));
  await load(opened, 4);
  expect(await snapshotsIn(opened.dir)).toHaveLength(3);
  expect(await blobsIn(opened.dir)).toBe(3);
  expect(await readdir(layout.manifests)).toHaveLength(3);
  expect(await readdir(layout.tmp)).toHaveLength(1);
});

test('contents, snapshots and records that nobody has any more go once they are five minutes old', async () => {
  const opened = await openLimited({});
  const current = await load(opened, 1);
  const intake = await opened.store.intake();
  await intake.commit([await intake.take(bodyOf('nobody has it'), null)]);
  await intake.close();
  const lost = await commitAll(opened.store, { MLmodel: 'lost' }, ['mlflow-artifacts:/lost']);
  await rm(opened.store.layout.manifest(OWN, ofVersion(['mlflow-artifacts:/lost'])));
  await writeFile(join(opened.store.layout.manifests, 'damaged.json'), '{');
  await opened.store.collector.collect(NO_DEMAND);
  expect(await snapshotsIn(opened.dir)).toEqual([current, lost.snapshot].toSorted());
  opened.clock.advance(6 * MINUTE_MS);
  await opened.store.collector.collect(NO_DEMAND);
  expect(await snapshotsIn(opened.dir)).toEqual([current]);
  await opened.store.collector.collect(NO_DEMAND);
  expect(await blobsIn(opened.dir)).toBe(1);
  expect(await readdir(opened.store.layout.manifests)).toHaveLength(1);
});

describe('what is not of a version', () => {
  const [BEGUN, BUSY] = ['a'.repeat(64), 'b'.repeat(64)];

  /** What a download has of a large file. */
  async function begin(dir: string): Promise<string> {
    await mkdir(dir, { recursive: true });
    await writeFile(join(dir, 'data'), Buffer.alloc(8 * KIB));
    await writeFile(join(dir, 'info.json'), '{}');
    return dir;
  }

  test('counts, and goes before what was superseded; what somebody is downloading counts, too, and stays', async () => {
    const opened = await openLimited({ maxBytes: 3 * SIZE + 30 * KIB });
    const { layout } = opened.store;
    await openLimited({}, opened.dir);
    for (const version of [1, 2, 3]) await load(opened, version);
    opened.clock.advance(MINUTE_MS);
    const begun = await begin(join(layout.partials, BEGUN));
    const [, busy] = await opened.store.ownership.living();
    const inUse = await begin(join(busy?.dir ?? '', `partial-${BUSY}-12345678`));
    const damaged = join(layout.quarantine, 'c'.repeat(64));
    await writeFile(damaged, Buffer.alloc(8 * KIB));
    expect((await opened.store.collector.collect(NO_DEMAND)).usedBytes).toBe(3 * SIZE + 24 * KIB);
    await opened.store.collector.collect({ ...NO_DEMAND, neededBytes: 20 * KIB });
    expect(await snapshotsIn(opened.dir)).toHaveLength(3);
    await expect(readdir(begun)).rejects.toThrow('ENOENT');
    await expect(readFile(damaged)).rejects.toThrow('ENOENT');
    expect(await readdir(inUse)).toHaveLength(2);
  });
});

describe('refs that are too old to be given', () => {
  const STALE = parseModelUri('models:/old/Production');

  test('are forgotten with record, link and snapshot where nothing else gives room', async () => {
    const opened = await openLimited({ maxBytes: 2 * SIZE, maxStaleMs: HOUR_MS });
    await load(opened, 1, { uri: STALE });
    await load(opened, 2);
    opened.clock.advance(2 * HOUR_MS);
    opened.store.refs.confirm(OWN, URI, versionOf('2'), 3, opened.clock.now());
    await opened.store.refs.flush();
    await load(opened, 3);
    expect(opened.store.refs.entries()).toHaveLength(1);
    expect(await filesBelow(join(opened.dir, 'v1/refs'))).toEqual(['churn/Production.json']);
    expect(await filesBelow(join(opened.dir, 'v1/models'))).toEqual(['churn/Production']);
    expect(await snapshotsIn(opened.dir)).toHaveLength(2);
  });

  test('stay where they are configured', async () => {
    const opened = await openLimited({
      maxBytes: 2 * SIZE,
      maxStaleMs: HOUR_MS,
      models: new Set(['models:/old/Production']),
    });
    await load(opened, 1, { uri: STALE });
    await load(opened, 2);
    opened.clock.advance(2 * HOUR_MS);
    opened.store.refs.confirm(OWN, URI, versionOf('2'), 3, opened.clock.now());
    await opened.store.refs.flush();
    await expect(load(opened, 3)).rejects.toMatchObject({ code: 'disk_full' });
    expect(opened.store.refs.entries()).toHaveLength(2);
  });
});

test('a snapshot that was removed before it could be published is not; what was published stays', async () => {
  const { store, dir } = await openLimited({});
  const one = await fetched(store, '1');
  await store.refs.publish(OWN, URI, one, 1, Date.now());
  const two = await fetched(store, '2');
  await rm(store.layout.snapshot(two.snapshot), { recursive: true });
  await expect(store.refs.publish(OWN, URI, two, 2, Date.now())).rejects.toThrow(Vanished);
  expect(store.refs.get(OWN, URI).published).toEqual(one);
  expect(JSON.parse(await readFile(join(dir, 'v1/refs/churn/Production.json'), 'utf8'))).toMatchObject({
    snapshot: one.snapshot,
  });
  expect(await realpath(join(dir, 'v1/models/churn/Production'))).toContain(one.snapshot);
});

test('something strange in the cache ends no collection', async () => {
  const opened = await openLimited({ maxBytes: SIZE });
  await load(opened, 1);
  await mkdir(join(opened.dir, 'v1/blobs/sha256/zz/a-directory'), { recursive: true });
  await writeFile(join(opened.dir, 'v1/blobs/sha256/a-file'), 'x');
  await writeFile(join(opened.dir, 'v1/snapshots/a-file'), 'x');
  await writeFile(join(opened.dir, 'v1/refs/a-file'), 'x');
  await mkdir(join(opened.dir, 'v1/refs/churn/a-directory'));
  await mkdir(join(opened.dir, 'v1/state/manifests/a-directory'));
  opened.clock.advance(HOUR_MS);
  await expect(opened.store.collector.collect(NO_DEMAND)).resolves.toMatchObject({ usedBytes: SIZE });
});

describe('versions that were asked for by number', () => {
  const numbered = (version: number) => parseModelUri(`models:/churn/${version}`);
  const asked = async (opened: Limited, version: number) =>
    await load(opened, version, { uri: numbered(version) });

  test('make room for the next one, whatever number of them, and the cache stays within its quota and one version', async () => {
    const opened = await openLimited({ maxBytes: 3 * SIZE });
    const production = await load(opened, 1_000);
    for (let version = 1; version <= 20; version++) {
      const snapshot = await asked(opened, version);
      expect(await readFile(join(opened.store.layout.snapshot(snapshot), 'MLmodel'), 'utf8')).toMatch(
        new RegExp(`^version: ${version}\n`),
      );
      expect((await snapshotsIn(opened.dir)).length).toBeLessThanOrEqual(4);
    }
    expect(await snapshotsIn(opened.dir)).toContain(production);
    expect(opened.store.refs.entries().length).toBeLessThanOrEqual(4);
    const records = await filesBelow(join(opened.dir, 'v1/refs'));
    expect(records).toContain('churn/20.json');
    expect(records).not.toContain('churn/10.json');
    expect(await filesBelow(join(opened.dir, 'v1/models'))).toEqual(
      records.map(name => name.replace('.json', '')),
    );
  });

  test('go in the order in which they were last given', async () => {
    const opened = await openLimited({ maxBytes: 3 * SIZE });
    const [first, second] = [await asked(opened, 1), await asked(opened, 2)];
    await asked(opened, 3);
    opened.clock.advance(MINUTE_MS);
    opened.store.usage.given(first, false);
    // What was given last of all may still be in the way.
    for (const version of [4, 5]) await asked(opened, version);
    const left = await snapshotsIn(opened.dir);
    expect(left).toContain(first);
    expect(left).not.toContain(second);
  });

  test('are kept where they are configured; the message names what holds the space', async () => {
    const models = new Set([1, 2, 3].map(version => `models:/churn/${version}`));
    const opened = await openLimited({ maxBytes: 3 * SIZE, models });
    for (const version of [1, 2, 3]) await asked(opened, version);
    opened.clock.advance(HOUR_MS);
    await expect(asked(opened, 4)).rejects.toThrow('Most is held by models:/churn/1 (1 version, 9.8 KiB), ');
    expect(await snapshotsIn(opened.dir)).toHaveLength(3);
  });
});

test('of callers whose token is a new one each time only the last ones keep anything, and all of it is gone with them', async () => {
  const opened = await openLimited({});
  await load(opened, 1);
  const tokens = MOST_SCOPES + 20;
  for (let n = 0; n < tokens; n++) {
    await load(opened, 1, {
      own: { ...scopeOf('http://mlflow:5000', null, `Bearer ${n}`), own: false },
      size: 20,
    });
  }
  expect(await readdir(opened.store.layout.scopes)).toHaveLength(tokens);
  opened.clock.advance(6 * MINUTE_MS);
  await opened.store.collector.collect(NO_DEMAND);
  expect(await readdir(opened.store.layout.scopes)).toHaveLength(MOST_SCOPES);
  expect(opened.store.refs.entries()).toHaveLength(MOST_SCOPES + 1);
  for (const dir of [opened.store.layout.snapshots, opened.store.layout.manifests, opened.store.layout.used])
    expect(await readdir(dir)).toHaveLength(MOST_SCOPES + 1);
});
