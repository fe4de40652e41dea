import { readdir, readFile, readlink, realpath, rm, stat, writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { parseModelUri, refKey } from '../../src/domain/model-uri.ts';
import { scopeOf } from '../../src/domain/scope.ts';
import { atMost } from '../support/limits.ts';
import { fetched, filesBelow, litter, OWN, openStore, reopen, versionOf } from './support.ts';

const URI = parseModelUri('models:/churn/Production');
const LINK = 'v1/models/churn/Production';
const RECORD = 'v1/refs/churn/Production.json';

async function record(dir: string): Promise<Record<string, unknown>> {
  return JSON.parse(await readFile(join(dir, RECORD), 'utf8'));
}

test('what was never published is known to be nothing', async () => {
  const { store } = await openStore();
  const nothing = {
    uri: URI,
    resolved: null,
    published: null,
    previous: null,
    confirmedAt: null,
    refusedAt: null,
  };
  expect(store.refs.get(OWN, URI)).toEqual(nothing);
  expect(store.refs.all(OWN)).toEqual([]);
  expect(store.refs.knows(OWN, 'models:/churn/Production')).toBe(false);
});

test('what is published is a relative link to the snapshot and a readable record', async () => {
  const { store, dir } = await openStore();
  const published = await fetched(store, '1');
  await store.refs.publish(OWN, URI, published, 1, 1_700_000_000_500);
  expect(await readlink(join(dir, LINK))).toBe(`../../snapshots/${published.snapshot}`);
  expect(await realpath(join(dir, LINK))).toBe(await realpath(store.layout.snapshot(published.snapshot)));
  expect(await record(dir)).toMatchObject({
    model_uri: 'models:/churn/Production',
    version: '1',
    digest: published.digest,
    snapshot: published.snapshot,
    confirmed_at: 1_700_000_000.5,
  });
  expect((await stat(join(dir, RECORD))).mode & 0o7777).toBe(0o444);
  expect(store.refs.get(OWN, URI)).toMatchObject({ published, confirmedAt: 1_700_000_000_500 });
  expect(store.refs.knows(OWN, 'models:/churn/Production')).toBe(true);
  expect(await litter(dir)).toEqual([]);
});

test('what is published is there after a restart, to the millisecond', async () => {
  const opened = await openStore();
  const published = await fetched(opened.store, '1');
  opened.store.refs.note(OWN, URI, { resolved: { version: '2', at: 1_700_000_000_123 } });
  await opened.store.refs.publish(OWN, URI, published, 1, 1_700_000_000_001);
  opened.store.refs.note(OWN, URI, { refusedAt: 1_700_000_000_777 });
  const before = opened.store.refs.get(OWN, URI);
  const { store } = await reopen(opened);
  expect(store.refs.get(OWN, URI)).toEqual(before);
});

describe('an older answer never overrides a newer one', () => {
  test('when it is published after it', async () => {
    const { store, dir } = await openStore();
    const [one, two] = [await fetched(store, '1'), await fetched(store, '2')];
    await store.refs.publish(OWN, URI, two, 2, 200);
    await store.refs.publish(OWN, URI, one, 1, 300);
    expect(store.refs.get(OWN, URI)).toMatchObject({ published: two, confirmedAt: 200 });
    expect(await readlink(join(dir, LINK))).toContain(two.snapshot);
    expect(await record(dir)).toMatchObject({ version: '2' });
  });

  test('when both are published at once, whichever comes first', async () => {
    const { store, dir } = await openStore();
    const versions = await Promise.all(['1', '2', '3', '4'].map(version => fetched(store, version)));
    const shuffled = [3, 0, 2, 1].flatMap(at => versions[at] ?? []);
    await Promise.all(
      shuffled.map(published =>
        store.refs.publish(OWN, URI, published, Number(published.version.version), Date.now()),
      ),
    );
    expect(store.refs.get(OWN, URI).published?.version.version).toBe('4');
    expect(await record(dir)).toMatchObject({ version: '4' });
    expect(await readlink(join(dir, LINK))).toContain(versions[3]?.snapshot);
  });

  test('when it confirms what was published before', async () => {
    const { store } = await openStore();
    await store.refs.publish(OWN, URI, await fetched(store, '2'), 2, 200);
    store.refs.confirm(OWN, URI, versionOf('1'), 1, 300);
    expect(store.refs.get(OWN, URI)).toMatchObject({
      confirmedAt: 200,
      published: { version: { version: '2' } },
    });
  });

  test('when a newer one confirmed the old version while it was being published', async () => {
    const { store, dir } = await openStore();
    const [one, two] = [await fetched(store, '1'), await fetched(store, '2')];
    await store.refs.publish(OWN, URI, one, 1, 100);
    const publishing = store.refs.publish(OWN, URI, two, 2, 200);
    await turn();
    store.refs.confirm(OWN, URI, one.version, 3, 300);
    await publishing;
    await store.refs.flush();
    expect(store.refs.get(OWN, URI).published?.version.version).toBe('1');
    expect(await record(dir)).toMatchObject({ version: '1' });
    expect(await readlink(join(dir, LINK))).toContain(one.snapshot);
  });
});

test('what MLflow says while a version is being published is not forgotten', async () => {
  const { store, dir } = await openStore();
  const one = await fetched(store, '1');
  const publishing = store.refs.publish(OWN, URI, one, 1, 100);
  await turn();
  store.refs.note(OWN, URI, { resolved: { version: '2', at: 200 } });
  await publishing;
  await store.refs.flush();
  expect(store.refs.get(OWN, URI).resolved).toEqual({ version: '2', at: 200 });
  expect(await record(dir)).toMatchObject({ version: '1', resolved: { version: '2' } });
});

describe('a confirmation', () => {
  test('is seen at once and saved', async () => {
    const { store, dir } = await openStore();
    await store.refs.publish(OWN, URI, await fetched(store, '1'), 1, 100_000);
    const moved = { ...versionOf('1'), stage: 'Archived', aliases: ['old'] };
    store.refs.confirm(OWN, URI, moved, 2, 200_000);
    expect(store.refs.get(OWN, URI)).toMatchObject({ confirmedAt: 200_000, published: { version: moved } });
    await store.refs.flush();
    expect(await record(dir)).toMatchObject({
      confirmed_at: 200,
      published: { version: { stage: 'Archived' } },
    });
  });

  test('ends a refusal', async () => {
    const { store } = await openStore();
    await store.refs.publish(OWN, URI, await fetched(store, '1'), 1, 100);
    store.refs.note(OWN, URI, { refusedAt: 150 });
    store.refs.confirm(OWN, URI, versionOf('1'), 2, 200);
    expect(store.refs.get(OWN, URI).refusedAt).toBeNull();
  });

  test('of what was never published is nothing', async () => {
    const { store, dir } = await openStore();
    store.refs.confirm(OWN, URI, versionOf('1'), 1, 100);
    await store.refs.flush();
    expect(store.refs.get(OWN, URI).confirmedAt).toBeNull();
    expect(await filesBelow(join(dir, 'v1/refs'))).toEqual([]);
  });

  test('a thousand times over is written a few times, the last one for sure', async () => {
    const { store, dir } = await openStore();
    await store.refs.publish(OWN, URI, await fetched(store, '1'), 1, 0);
    const startedAt = performance.now();
    for (let n = 1; n <= 1_000; n++) store.refs.confirm(OWN, URI, versionOf('1'), n, n * 1_000);
    await store.refs.flush();
    expect(performance.now() - startedAt).toBeLessThan(atMost(1_000));
    expect(await record(dir)).toMatchObject({ confirmed_at: 1_000 });
  });
});

test('what is noted last is what the record says', async () => {
  const { store, dir } = await openStore();
  await store.refs.publish(OWN, URI, await fetched(store, '1'), 1, 0);
  for (let n = 1; n <= 50; n++) {
    store.refs.note(OWN, URI, { resolved: { version: String(n), at: n * 1_000 } });
    if (n % 7 === 0) await turn();
  }
  await store.refs.flush();
  expect(await record(dir)).toMatchObject({ resolved: { version: '50', at: 50 } });
});

test('of what could never be had nothing is written, and the last thousand are remembered', async () => {
  const { store, dir } = await openStore();
  const failing = (n: number) => parseModelUri(`runs:/${'0'.repeat(32)}/no-such-path-${n}`);
  for (let n = 0; n < 10_000; n++) {
    store.refs.note(OWN, failing(n), { resolved: { version: null, at: n } });
    if (n % 500 === 0) await turn();
  }
  await store.refs.flush();
  expect(await filesBelow(join(dir, 'v1/refs'))).toEqual([]);
  expect(store.refs.entries()).toHaveLength(1_000);
  expect(store.refs.get(OWN, failing(9_999)).resolved).toEqual({ version: null, at: 9_999 });
  expect(store.refs.get(OWN, failing(0)).resolved).toBeNull();
});

test('a ref that is forgotten leaves no empty directory, and can be published again at once', async () => {
  const { store, dir } = await openStore();
  const caller = { ...scopeOf('http://mlflow:5000', null, 'Bearer caller'), own: false };
  const published = await fetched(store, '1');
  for (const scope of [OWN, caller]) {
    await store.refs.publish(scope, URI, published, 1, 0);
    const path = relative(join(dir, 'v1'), store.layout.record(scope, refKey(URI)));
    const publishing = [1, 2, 3].map(async n => {
      await store.refs.forget(scope, URI, path);
      if (n < 3) await store.refs.publish(scope, URI, published, n, n);
    });
    await Promise.all(publishing);
    await store.refs.forget(scope, URI, path);
  }
  for (const base of ['refs', 'models', 'state/scopes'])
    expect(await readdir(join(dir, 'v1', base))).toEqual([]);
});

test('a snapshot that is forgotten is published no more', async () => {
  const { store } = await openStore();
  await store.refs.publish(OWN, URI, await fetched(store, '1'), 1, 100);
  await rm(store.layout.snapshot(store.refs.get(OWN, URI).published?.snapshot ?? ''), { recursive: true });
  await store.refs.unpublish(OWN, URI);
  expect(store.refs.get(OWN, URI)).toMatchObject({ published: null, confirmedAt: null });
  await store.refs.publish(OWN, URI, await fetched(store, '1'), 2, 200);
  expect(store.refs.get(OWN, URI).confirmedAt).toBe(200);
});

test('a publication that cannot be written leaves what readers got before', async () => {
  const { store, dir } = await openStore();
  const [one, two] = [await fetched(store, '1'), await fetched(store, '2')];
  await store.refs.publish(OWN, URI, one, 1, 100);
  await rm(join(dir, 'v1/refs/churn'), { recursive: true });
  await rm(join(dir, 'v1/refs'), { recursive: true });
  await writeFile(join(dir, 'v1/refs'), 'in the way');
  await expect(store.refs.publish(OWN, URI, two, 2, 200)).rejects.toThrow();
  expect(store.refs.get(OWN, URI)).toMatchObject({ published: one, confirmedAt: 100 });
  expect(await readlink(join(dir, LINK))).toContain(one.snapshot);
  expect(await litter(dir)).toEqual([]);
});

test('a note that cannot be written is told, and the next one is tried again', async () => {
  const { store, dir, events } = await openStore();
  await rm(join(dir, 'v1/refs'), { recursive: true });
  await writeFile(join(dir, 'v1/refs'), 'in the way');
  store.refs.note(OWN, URI, { refusedAt: 1_000 });
  await store.refs.flush();
  await turn();
  expect(events.map(event => event.type)).toContain('cache_unusable');
  await rm(join(dir, 'v1/refs'));
  store.refs.note(OWN, URI, { refusedAt: 2_000 });
  await store.refs.flush();
  expect(await record(dir)).toMatchObject({ refused_at: 2 });
});
