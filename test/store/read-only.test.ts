import { readdir, readlink, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { systemClock } from '../../src/domain/clock.ts';
import { EventBus } from '../../src/domain/events.ts';
import { parseModelUri } from '../../src/domain/model-uri.ts';
import { scopeOf } from '../../src/domain/scope.ts';
import { Cache } from '../../src/store/cache.ts';
import { fileIn, flip, scrub } from './damage.ts';
import { fetched, OWN, ofVersion, openStore, reopen, temporaryDirectory } from './support.ts';

const URI = parseModelUri('models:/churn/Production');
const LINK = 'v1/models/churn/Production';
const OTHER = scopeOf('http://mlflow.default.svc:5000', null, null);

async function published(version: string) {
  const opened = await openStore();
  const snapshot = await fetched(opened.store, version);
  await opened.store.refs.publish(OWN, URI, snapshot, 1, 1_000);
  return { ...opened, snapshot };
}

test('where nothing can be written, what is there is given, and the reason is told', async () => {
  const before = await published('1');
  await before.store.close();
  await rm(join(before.dir, 'v1/tmp'), { recursive: true });
  await writeFile(join(before.dir, 'v1/tmp'), 'in the way');
  const { store } = await openStore(before.dir);
  expect(store.problem?.message).toMatch(/^The cache directory .* does not work: /);
  expect(store.refs.get(OWN, URI).published).toEqual(before.snapshot);
  expect(await store.hasSnapshot(before.snapshot.snapshot)).toBe(true);
  await expect(store.intake()).rejects.toBe(store.problem);
  await expect(store.refs.publish(OWN, URI, before.snapshot, 2, 2_000)).rejects.toBe(store.problem);
  store.refs.confirm(OWN, URI, before.snapshot.version, 3, 3_000);
  expect(store.refs.get(OWN, URI).confirmedAt).toBe(3_000);
  await rm(join(before.dir, 'v1/tmp'));
});

test('a cache that somebody removed is made again by the next fetch', async () => {
  const { store, dir } = await published('1');
  await rm(join(dir, 'v1'), { recursive: true });
  const again = await fetched(store, '2');
  await store.refs.publish(OWN, URI, again, 2, 2_000);
  expect(await readlink(join(dir, LINK))).toContain(again.snapshot);
});

test('what another process published is not taken back by what we have to note', async () => {
  const ours = await published('1');
  const theirs = await openStore(ours.dir);
  const newer = await fetched(theirs.store, '2');
  await theirs.store.refs.publish(OWN, URI, newer, 1, 2_000);
  ours.store.refs.note(OWN, URI, { refusedAt: 3_000 });
  await ours.store.refs.flush();
  expect(ours.store.refs.get(OWN, URI)).toMatchObject({ published: newer, refusedAt: 3_000 });
  const { store } = await reopen(ours);
  expect(store.refs.get(OWN, URI).published).toEqual(newer);
  expect(await readlink(join(ours.dir, LINK))).toContain(newer.snapshot);
});

test('a process for another registry leaves the refs of a living one alone', async () => {
  const ours = await published('1');
  await openStore(ours.dir, OTHER);
  expect(await readlink(join(ours.dir, LINK))).toContain(ours.snapshot.snapshot);
  expect(await readdir(join(ours.dir, 'v1/refs/churn'))).toEqual(['Production.json']);
});

test('a link in whose place something else was put is a link again', async () => {
  const ours = await published('1');
  await ours.store.close();
  await rename(join(ours.dir, LINK), join(ours.dir, 'away'));
  await writeFile(join(ours.dir, LINK), 'not a link');
  await openStore(ours.dir);
  expect(await readlink(join(ours.dir, LINK))).toContain(ours.snapshot.snapshot);
});

test('a read-only cache is read once, however often it is tried, and written again when it can be', async () => {
  const before = await published('1');
  await before.store.close();
  const tmp = join(before.dir, 'v1/tmp');
  await rm(tmp, { recursive: true });
  await writeFile(tmp, 'in the way');
  const events = new EventBus();
  const told: string[] = [];
  events.subscribe(event => told.push(event.type));
  const cache = new Cache({ dir: before.dir, own: OWN, clock: systemClock, events });
  onTestFinished(async () => void (await cache.close()));
  await cache.open();
  await cache.open();
  await cache.open();
  expect(told).toEqual(['cache_recovered', 'cache_unusable']);
  expect(cache.store().refs.get(OWN, URI).published).toEqual(before.snapshot);
  await rm(tmp);
  await cache.open();
  expect(cache.problem).toBeNull();
  expect(await readdir(tmp)).toHaveLength(1);
});

test('a directory that cannot be recovered leaves no lease behind', async () => {
  const dir = await temporaryDirectory();
  await openStore(dir).then(({ store }) => store.close());
  await symlink('loop', join(dir, 'v1/models/loop'));
  await expect(openStore(dir)).rejects.toThrow('does not work');
  expect(await readdir(join(dir, 'v1/tmp'))).toEqual([]);
});

test('what is damaged in a cache that can only be read is not given, nor when it can be written again', async () => {
  const before = await published('1');
  await before.store.close();
  const tmp = join(before.dir, 'v1/tmp');
  await rm(tmp, { recursive: true });
  await writeFile(tmp, 'in the way');
  const cache = new Cache({ dir: before.dir, own: OWN, clock: systemClock, events: new EventBus() });
  await cache.open();
  onTestFinished(async () => void (await cache.close()));
  const store = cache.store();
  await flip(fileIn(store, before.snapshot.snapshot, 'MLmodel'));
  const { damaged } = await scrub(store);
  expect(damaged).toBe(1);
  expect(store.refs.get(OWN, URI)).toMatchObject({ published: null, confirmedAt: null });
  expect(await store.find(OWN, ofVersion([before.snapshot.version.source]))).toBeNull();
  expect(await store.hasSnapshot(before.snapshot.snapshot)).toBe(true);
  await rm(tmp);
  await cache.open();
  expect(cache.store().problem).toBeNull();
  expect(cache.store().refs.get(OWN, URI).published).toBeNull();
  expect(await cache.store().hasSnapshot(before.snapshot.snapshot)).toBe(false);
});
