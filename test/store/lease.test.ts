import { mkdir, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { Lease, pidSpace, sweepDeadLeases } from '../../src/store/disk/lease.ts';
import { SOON } from '../support/limits.ts';
import { run, start } from './child.ts';
import { fetched, openStore, temporaryDirectory } from './support.ts';

const MINUTE_MS = 60_000;

/** A lease as a process left it, with its last heartbeat so long ago. */
async function leftBy(tmp: string, owner: object | string | null, ageMs = 0): Promise<string> {
  const name = `lease-${(await readdir(tmp)).length}`;
  const dir = join(tmp, name);
  await mkdir(dir);
  const at = new Date(Date.now() - ageMs);
  if (owner !== null) {
    const file = join(dir, 'owner.json');
    await writeFile(file, typeof owner === 'string' ? owner : JSON.stringify(owner));
    await utimes(file, at, at);
  }
  await utimes(dir, at, at);
  return name;
}

/** The id of a process that was and is no more. */
async function deadPid(): Promise<number> {
  const dir = await temporaryDirectory();
  const child = start([dir, 'hold']);
  await child.said(2);
  await child.kill();
  return child.pid;
}

test('a lease is a private directory signed by its process, and is gone when released', async () => {
  const tmp = await temporaryDirectory();
  const lease = await Lease.take(tmp);
  expect(JSON.parse(await readFile(join(lease.dir, 'owner.json'), 'utf8'))).toEqual({
    pid: process.pid,
    space: await pidSpace(),
    since: expect.closeTo(Date.now(), -4),
  });
  await lease.release();
  expect(await readdir(tmp)).toEqual([]);
});

describe('swept is', () => {
  test('what a process of this host left that runs no more', async () => {
    const tmp = await temporaryDirectory();
    await leftBy(tmp, { pid: await deadPid(), space: await pidSpace() });
    expect(await sweepDeadLeases(tmp, Date.now())).toBe(1);
    expect(await readdir(tmp)).toEqual([]);
  });

  test('what an earlier process left that had our own id, as in a container', async () => {
    const tmp = await temporaryDirectory();
    await leftBy(tmp, { pid: process.pid, space: await pidSpace() });
    expect(await sweepDeadLeases(tmp, Date.now())).toBe(1);
  });

  test('what a process of another host has not touched for a minute', async () => {
    const tmp = await temporaryDirectory();
    await leftBy(tmp, { pid: process.pid, space: 'another' }, 2 * MINUTE_MS);
    expect(await sweepDeadLeases(tmp, Date.now())).toBe(1);
  });

  test.each(['', '{', '{"pid":-1,"space":"x"}', 'null'])(
    'what nobody signed, %j, once it is old',
    async owner => {
      const tmp = await temporaryDirectory();
      await leftBy(tmp, owner, 2 * MINUTE_MS);
      await leftBy(tmp, null, 2 * MINUTE_MS);
      expect(await sweepDeadLeases(tmp, Date.now())).toBe(2);
    },
  );

  test('a file that is none of ours, once it is old', async () => {
    const tmp = await temporaryDirectory();
    await writeFile(join(tmp, 'stray'), '');
    expect(await sweepDeadLeases(tmp, Date.now())).toBe(0);
    expect(await sweepDeadLeases(tmp, Date.now() + 2 * MINUTE_MS)).toBe(1);
  });
});

describe('left alone is', () => {
  test('what a process of another host touched lately', async () => {
    const tmp = await temporaryDirectory();
    const name = await leftBy(tmp, { pid: await deadPid(), space: 'another' }, MINUTE_MS / 2);
    expect(await sweepDeadLeases(tmp, Date.now())).toBe(0);
    expect(await readdir(tmp)).toEqual([name]);
  });

  test('what is so new that nobody has signed it yet', async () => {
    const tmp = await temporaryDirectory();
    await leftBy(tmp, null);
    expect(await sweepDeadLeases(tmp, Date.now())).toBe(0);
  });

  test('what a process of this host works on', async () => {
    const dir = await temporaryDirectory();
    const child = start([dir, 'hold']);
    await child.said(2);
    const { store } = await openStore(dir);
    const leases = await readdir(join(dir, 'v1/tmp'));
    expect(leases.filter(name => name.startsWith(`${child.pid}-`))).toHaveLength(1);
    await store.close();
    await child.kill();
    await openStore(dir);
    expect((await readdir(join(dir, 'v1/tmp'))).filter(name => name.startsWith(`${child.pid}-`))).toEqual([]);
  });
});

test('a process that was stopped keeps its lease on its own host', async () => {
  const { store, dir } = await openStore();
  await sweepDeadLeases(join(dir, 'v1/tmp'), Date.now() + 2 * MINUTE_MS);
  await expect(fetched(store, '1')).resolves.toMatchObject({ files: 2 });
});

test('a lease that another host swept is there again after the next heartbeat', async () => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
  try {
    const lease = await Lease.take(await temporaryDirectory());
    await rm(lease.dir, { recursive: true });
    vi.advanceTimersByTime(10_000);
    await vi.waitFor(async () => expect(await readdir(lease.dir)).toEqual(['owner.json']), SOON);
    await lease.release();
  } finally {
    vi.useRealTimers();
  }
});

test('what another process published is there when the store is opened, with its bytes shared', async () => {
  const dir = await temporaryDirectory();
  await run([dir, 'once']);
  const { store } = await openStore(dir);
  expect(store.refs.everyone()).toHaveLength(1);
  expect(await readdir(join(dir, 'v1/tmp'))).toHaveLength(1);
});
