import { mkdir, readdir, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { start } from './child.ts';
import { openStore, temporaryDirectory } from './support.ts';

test('a process alone on a directory owns it', async () => {
  const { store } = await openStore();
  expect(store.ownership.isOwner()).toBe(true);
  await store.close();
  expect(store.ownership.isOwner()).toBe(false);
});

test('of two processes the first one owns the directory, and the second one as soon as the first one was killed', async () => {
  const dir = await temporaryDirectory();
  const child = start([dir, 'hold']);
  await child.said(2);
  const { store } = await openStore(dir);
  expect(await store.ownership.check()).toBe(false);
  expect((await store.ownership.living()).map(({ pid }) => pid)).toEqual([child.pid, process.pid]);
  await child.kill();
  expect(await store.ownership.check()).toBe(true);
  expect(store.ownership.isOwner()).toBe(true);
});

test('of several stores of one process the first one owns the directory', async () => {
  const { store: first, dir } = await openStore();
  const { store: second } = await openStore(dir);
  expect(await Promise.all([first, second].map(store => store.ownership.check()))).toEqual([true, false]);
  await first.close();
  expect(await second.ownership.check()).toBe(true);
});

test('a process of another host owns the directory until its heartbeat is a minute old', async () => {
  const { store, dir } = await openStore();
  const lease = join(dir, 'v1/tmp/elsewhere');
  const file = join(lease, 'owner.json');
  await mkdir(lease);
  await writeFile(file, JSON.stringify({ pid: 1, space: 'another host', since: 1 }));
  expect(await store.ownership.check()).toBe(false);
  const longAgo = new Date(Date.now() - 61_000);
  await utimes(file, longAgo, longAgo);
  expect(await store.ownership.check()).toBe(true);
});

test('a lease that is not signed yet owns nothing', async () => {
  const { store, dir } = await openStore();
  await mkdir(join(dir, 'v1/tmp/unsigned'));
  expect(await store.ownership.check()).toBe(true);
  expect(await readdir(join(dir, 'v1/tmp'))).toHaveLength(2);
});
