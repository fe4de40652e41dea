import { createHash } from 'node:crypto';
import { readdir, readFile, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { parseModelUri } from '../../src/domain/model-uri.ts';
import { scopeOf } from '../../src/domain/scope.ts';
import { NO_DEMAND } from '../../src/store/collect/collector.ts';
import { Layout } from '../../src/store/disk/layout.ts';
import { readRecords } from '../../src/store/records/records.ts';
import type { Published } from '../../src/store/records/ref-record.ts';
import { start } from './child.ts';
import { HOUR_MS, load, openLimited } from './collect-support.ts';
import { fetched, filesBelow, litter, OWN, openStore, temporaryDirectory } from './support.ts';

const URI = parseModelUri('models:/churn/Production');
const LINK = 'v1/models/churn/Production';
const KILLS = 8;
/** Of some three versions. */
const LIMIT = 80;
const OTHER_URI = parseModelUri('models:/other/Production');

/** Everything that a reader or a restart could trip over. */
async function faultsIn(dir: string): Promise<readonly string[]> {
  const faults: string[] = [];
  for (const id of await readdir(join(dir, 'v1/snapshots'))) {
    const files = await filesBelow(join(dir, 'v1/snapshots', id));
    if (files.join() !== 'MLmodel,data/model.pkl') faults.push(`snapshot ${id} has ${files.join()}`);
    const text = await readFile(join(dir, 'v1/snapshots', id, 'MLmodel'), 'utf8');
    if (!/^version: \d+\n$/.test(text)) faults.push(`snapshot ${id} holds ${JSON.stringify(text)}`);
  }
  for (const path of await filesBelow(join(dir, 'v1/blobs/sha256'))) {
    const content = await readFile(join(dir, 'v1/blobs/sha256', path));
    if (!path.endsWith(createHash('sha256').update(content).digest('hex')))
      faults.push(`blob ${path} is damaged`);
  }
  return faults;
}

async function versionAtLink(dir: string): Promise<number> {
  const text = await readFile(join(dir, LINK, 'MLmodel'), 'utf8');
  return Number(/\d+/.exec(text)?.[0]);
}

test('killed at random moments it leaves whole versions only, never goes back, and leaves no litter', async () => {
  const dir = await temporaryDirectory();
  let last = 0;
  for (let n = 0; n < KILLS; n++) {
    const child = start([dir, 'publish', '22', String(last + 1)]);
    await child.said(3);
    await sleep(Math.random() * 60);
    await child.kill();
    const promised = Number(child.lines.at(-1));
    expect(await faultsIn(dir)).toEqual([]);
    const { store } = await openStore(dir);
    expect(await litter(dir)).toEqual([]);
    const version = await versionAtLink(dir);
    expect(version).toBeGreaterThanOrEqual(promised);
    expect(store.refs.get(OWN, URI).published?.version.version).toBe(String(version));
    last = version;
    await store.close();
  }
});

test('two processes that publish on one directory leave whole versions and a link to one of them', async () => {
  const dir = await temporaryDirectory();
  const children = [start([dir, 'publish', '22', '1']), start([dir, 'publish', '22', '1'])];
  await Promise.all(children.map(child => child.said(25)));
  await Promise.all(children.map(child => child.kill()));
  expect(await faultsIn(dir)).toEqual([]);
  const { store } = await openStore(dir);
  expect(store.refs.get(OWN, URI).published?.version.version).toBe(String(await versionAtLink(dir)));
  expect(await litter(dir)).toEqual([]);
});

test('a process that opens the directory while we publish never takes our link away nor turns it back', async () => {
  const { store, dir } = await openStore();
  const versions: Published[] = [];
  for (const version of ['1', '2', '3']) versions.push(await fetched(store, version));
  const openers = [start([dir, 'open']), start([dir, 'open'])];
  await Promise.all(openers.map(child => child.said(1)));
  const wrong = new Set<string>();
  const until = performance.now() + 2_500;
  for (let order = 1; performance.now() < until; order++) {
    const published = versions[order % versions.length];
    if (published === undefined) continue;
    await store.refs.publish(OWN, URI, published, order, Date.now());
    await sleep(3);
    const target = () => readlink(join(dir, LINK)).catch(() => 'gone');
    if ((await target()).endsWith(published.snapshot)) continue;
    // Between its look at the record and its rename the other process may be held up; it looks again afterwards.
    await sleep(100);
    if (!(await target()).endsWith(published.snapshot)) wrong.add(await target());
  }
  expect([...wrong]).toEqual([]);
});

/** What a scope's record of the ref says that it keeps, wherever that is. */
async function keptIn(dir: string, scope = OWN): Promise<readonly string[]> {
  const records = await readRecords(new Layout(dir));
  const refs = records.flatMap(({ found }) => (found?.scopeId === scope.id ? [found.ref] : []));
  const kept = refs.flatMap(({ published, previous }) => [published?.snapshot, previous]);
  return [...new Set(kept.flatMap(id => id ?? []))].toSorted();
}

test('killed at random moments while it collects it leaves whole versions, and what nobody has goes in the end', async () => {
  const dir = await temporaryDirectory();
  let last = 0;
  for (let n = 0; n < KILLS / 2; n++) {
    const child = start([dir, 'publish', '22', String(last + 1), String(LIMIT), '600']);
    await child.said(8);
    await sleep(Math.random() * 60);
    await child.kill();
    expect(await faultsIn(dir)).toEqual([]);
    const { store } = await openStore(dir);
    expect(await litter(dir)).toEqual([]);
    last = await versionAtLink(dir);
    const there = await readdir(join(dir, 'v1/snapshots'));
    for (const id of await keptIn(dir)) expect(there).toContain(id);
    await store.close();
  }
  const { store, clock } = await openLimited({ maxBytes: 1 }, dir);
  clock.advance(24 * HOUR_MS);
  await store.collector.collect(NO_DEMAND);
  await store.collector.collect(NO_DEMAND);
  expect((await readdir(join(dir, 'v1/snapshots'))).toSorted()).toEqual(await keptIn(dir));
  expect(await filesBelow(join(dir, 'v1/blobs/sha256'))).toHaveLength(3);
  expect(await readdir(join(dir, 'v1/state/manifests'))).toHaveLength(2);
  expect(await readdir(join(dir, 'v1/state/used'))).toHaveLength(2);
});

test('of two processes one collects; what the other serves stays, and it collects when the first is killed', async () => {
  const dir = await temporaryDirectory();
  const theirs = scopeOf('http://another:5000', null, null);
  const before = await openLimited({}, dir, theirs);
  const served = await load(before, 1, { own: theirs, uri: OTHER_URI, size: 20 });
  const child = start([dir, 'publish', '22', '1', String(LIMIT), '31']);
  await child.said(2);
  await before.store.close();
  const { store, clock } = await openLimited({ maxBytes: 10 * LIMIT }, dir, theirs);
  const already = child.lines.length;
  await child.said(already + 40);
  expect(store.ownership.isOwner()).toBe(false);
  expect(await readdir(join(dir, 'v1/snapshots'))).toEqual(expect.arrayContaining([served]));
  await child.kill();
  clock.advance(24 * HOUR_MS);
  await store.collector.collect({ ...NO_DEMAND, neededBytes: 10 * LIMIT });
  expect(store.ownership.isOwner()).toBe(true);
  expect((await readdir(join(dir, 'v1/snapshots'))).toSorted()).toEqual(
    [served, ...(await keptIn(dir))].toSorted(),
  );
});
