import { mkdir, open, readdir, readFile, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parseModelUri } from '../../src/domain/model-uri.ts';
import type { Published } from '../../src/store/records/ref-record.ts';
import { identityOf } from '../../src/store/verify/inspect.ts';
import { Quarantine } from '../../src/store/verify/quarantine.ts';
import type { Harm } from '../../src/store/verify/scrub.ts';
import { fileIn, flip, scrub } from './damage.ts';
import { fetched, filesBelow, type Opened, OWN, openStore, reopen } from './support.ts';

const URI = parseModelUri('models:/churn/Production');
const ALIAS = parseModelUri('models:/churn@champion');
const DAY_MS = 24 * 3_600_000;

interface Shared extends Opened {
  readonly one: Published;
  readonly two: Published;
  readonly harm: Harm;
}

/** Two versions that share a damaged file, and what a pass says of it before anything is done. */
async function withSharedDamage(): Promise<Shared> {
  const opened = await openStore();
  const one = await fetched(opened.store, '1');
  const two = await fetched(opened.store, '2');
  await opened.store.refs.publish(OWN, URI, one, 1, Date.now());
  await opened.store.refs.publish(OWN, ALIAS, two, 2, Date.now());
  await flip(fileIn(opened.store, one.snapshot, 'data/model.pkl'));
  const { harms } = await scrub(opened.store, undefined, async () => undefined);
  const [harm] = harms;
  if (harm === undefined) throw new Error('no damage was found');
  return { ...opened, one, two, harm };
}

describe('a process that dies in the middle of a quarantine gives nothing of it after a restart, whatever it did last', () => {
  /** The disk as each step leaves it. */
  const steps: Readonly<Record<string, Partial<Harm>>> = {
    'the snapshots were moved': { blobs: [], roots: [] },
    'the blob was moved too': { roots: [] },
    'the records of the manifests were removed too': {},
  };
  test.each(Object.entries(steps))('%s', async (_step, left) => {
    const before = await withSharedDamage();
    const quarantine = new Quarantine(before.store.layout, before.store.layout.tmp);
    await quarantine.take({ ...before.harm, ...left });
    await expectNothingGiven(await reopen(before));
  });

  test('only what is to go was written down, and one of two snapshots was moved', async () => {
    const before = await withSharedDamage();
    const { layout } = before.store;
    const snapshots = [before.one.snapshot, before.two.snapshot];
    const intent = snapshots.map(async snapshot => ({
      snapshot,
      identity: await identityOf(layout.snapshot(snapshot)),
    }));
    const text = JSON.stringify(await Promise.all(intent));
    await new Quarantine(layout, layout.tmp).take({
      snapshots: snapshots.slice(0, 1),
      blobs: [],
      roots: [],
    });
    await writeFile(join(layout.quarantine, 'intent-1.json'), text);
    const after = await reopen(before);
    await expectNothingGiven(after);
    expect((await readdir(layout.quarantine)).toSorted()).toEqual(snapshots.toSorted());
  });

  async function expectNothingGiven({ dir, store }: Opened): Promise<void> {
    for (const uri of [URI, ALIAS]) expect(store.refs.get(OWN, uri).published).toBeNull();
    expect(await filesBelow(join(dir, 'v1/models'))).toEqual([]);
    expect(await filesBelow(store.layout.snapshots)).toEqual([]);
    for (const version of ['1', '2']) {
      const { snapshot } = await fetched(store, version);
      expect(await readFile(fileIn(store, snapshot, 'data/model.pkl'), 'utf8')).toBe('shared');
    }
    expect(await scrub(store)).toMatchObject({ damaged: 0 });
  }
});

test('what was to go does not take along what was made anew under its name', async () => {
  const before = await withSharedDamage();
  const { layout } = before.store;
  const intent = [{ snapshot: before.one.snapshot, identity: '0 0' }];
  await mkdir(layout.quarantine, { recursive: true });
  await writeFile(join(layout.quarantine, 'intent-1.json'), JSON.stringify(intent));
  await writeFile(join(layout.quarantine, 'intent-2.json'), 'cut off');
  const { store } = await reopen(before);
  expect(store.refs.get(OWN, URI).published).toEqual(before.one);
  expect(await readdir(layout.quarantine)).toEqual([]);
});

test('whoever has a file open reads on, and nobody else finds it', async () => {
  const { store, one, harm } = await withSharedDamage();
  const reader = await open(fileIn(store, one.snapshot, 'MLmodel'));
  await store.quarantine(harm);
  expect(await reader.readFile('utf8')).toBe('version: 1\n');
  await reader.close();
  await expect(readFile(fileIn(store, one.snapshot, 'MLmodel'))).rejects.toThrow('ENOENT');
});

test('of one digest only the newest is kept', async () => {
  const { store, harm } = await withSharedDamage();
  await store.quarantine(harm);
  await fetched(store, '1');
  const again = await fetched(store, '2');
  await flip(fileIn(store, again.snapshot, 'data/model.pkl'));
  await scrub(store);
  expect((await readdir(store.layout.quarantine)).toSorted()).toEqual(
    [...harm.snapshots, ...harm.blobs].toSorted(),
  );
});

test('what is in quarantine goes after a day, and not before', async () => {
  const { store, harm } = await withSharedDamage();
  await store.quarantine(harm);
  const old = new Date(0);
  await utimes(join(store.layout.quarantine, harm.blobs[0] ?? ''), old, old);
  await store.expireQuarantine(Date.now() + DAY_MS - 60_000);
  expect(await readdir(store.layout.quarantine)).toHaveLength(3);
  await store.expireQuarantine(Date.now() + DAY_MS + 1);
  expect(await readdir(store.layout.quarantine)).toEqual([]);
});

test('no more than 100 are kept', async () => {
  const { store } = await withSharedDamage();
  const names = Array.from({ length: 103 }, (_, n) =>
    join(store.layout.quarantine, String(n).padStart(64, '0')),
  );
  for (const name of names) await writeFile(name, 'x');
  await store.expireQuarantine(Date.now());
  expect(await readdir(store.layout.quarantine)).toHaveLength(100);
});
