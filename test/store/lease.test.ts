import { spawnSync } from 'node:child_process';
import { mkdir, readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { z } from 'zod';
import { type Clock, systemClock } from '../../src/domain/clock.ts';
import { Lease, liveLeases, sweepDeadLeases } from '../../src/store/disk/lease.ts';
import { ownIdentity, pidSpace } from '../../src/store/disk/process-identity.ts';
import { SOON } from '../support/limits.ts';
import { run, start } from './child.ts';
import { fetched, openStore, temporaryDirectory } from './support.ts';

const MINUTE_MS = 60_000;
/** The system's, so much later. */
const later = (ms: number): Clock => ({
  now: () => systemClock.now() + ms,
  monotonic: () => systemClock.monotonic() + ms,
});

/** With process ids of its own. */
const CONTAINER = ['unshare', '--pid', '--fork', '--kill-child', '--mount-proc'] as const;

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
    ...(await ownIdentity()),
    since: expect.closeTo(Date.now(), -4),
  });
  await lease.release();
  expect(await readdir(tmp)).toEqual([]);
});

describe('swept is', () => {
  test('what a process of this host left that runs no more', async () => {
    const tmp = await temporaryDirectory();
    await leftBy(tmp, { pid: await deadPid(), space: await pidSpace() });
    expect(await sweepDeadLeases(tmp, systemClock)).toBe(1);
    expect(await readdir(tmp)).toEqual([]);
  });

  test('what an earlier process left that had our own id, as in a container', async () => {
    const tmp = await temporaryDirectory();
    await leftBy(tmp, { pid: process.pid, space: await pidSpace() });
    expect(await sweepDeadLeases(tmp, systemClock)).toBe(1);
  });

  test('what a process of another host has not touched for a minute', async () => {
    const tmp = await temporaryDirectory();
    await leftBy(tmp, { pid: process.pid, space: 'another' }, 2 * MINUTE_MS);
    expect(await sweepDeadLeases(tmp, systemClock)).toBe(1);
  });

  test.each(['', '{', '{"pid":-1,"space":"x"}', 'null'])(
    'what nobody signed, %j, once it is old',
    async owner => {
      const tmp = await temporaryDirectory();
      await leftBy(tmp, owner, 2 * MINUTE_MS);
      await leftBy(tmp, null, 2 * MINUTE_MS);
      expect(await sweepDeadLeases(tmp, systemClock)).toBe(2);
    },
  );

  test('a file that is none of ours, once it is old', async () => {
    const tmp = await temporaryDirectory();
    await writeFile(join(tmp, 'stray'), '');
    expect(await sweepDeadLeases(tmp, systemClock)).toBe(0);
    expect(await sweepDeadLeases(tmp, later(2 * MINUTE_MS))).toBe(1);
  });
});

describe('taken for dead, though a process of that id runs here, is', () => {
  /** A process of this host that lives, as a lease would name it. */
  async function living() {
    const dir = await temporaryDirectory();
    const child = start([dir, 'hold']);
    await child.said(2);
    const [name = ''] = await readdir(join(dir, 'v1/tmp'));
    const owner: unknown = JSON.parse(await readFile(join(dir, 'v1/tmp', name, 'owner.json'), 'utf8'));
    return { child, owner: z.looseObject({ started: z.string() }).parse(owner) };
  }

  test('one whose id belongs to another program by now', async () => {
    const tmp = await temporaryDirectory();
    const { owner } = await living();
    await leftBy(tmp, { ...owner, started: '1', since: 1 });
    expect(await liveLeases(tmp, systemClock)).toEqual([]);
    expect(await sweepDeadLeases(tmp, systemClock)).toBe(1);
  });

  test('one that was written before the host was started anew, once its heartbeat is old', async () => {
    const tmp = await temporaryDirectory();
    const { owner } = await living();
    const space = (await pidSpace()).replace(/[0-9a-f]{8}-/, '00000000-');
    await leftBy(tmp, { ...owner, space, since: 1 }, 2 * MINUTE_MS);
    expect(await liveLeases(tmp, systemClock)).toEqual([]);
    expect(await sweepDeadLeases(tmp, systemClock)).toBe(1);
  });

  test('one of an older release, which says no start, once its heartbeat is old', async () => {
    const tmp = await temporaryDirectory();
    await leftBy(tmp, { pid: 1, space: `${hostname()} pid:[1]`, since: 1 }, 2 * MINUTE_MS);
    expect(await liveLeases(tmp, systemClock)).toEqual([]);
    expect(await sweepDeadLeases(tmp, systemClock)).toBe(1);
  });

  test('one that only hangs: it owns nothing after a minute, and keeps its directory until it ends', async () => {
    const tmp = await temporaryDirectory();
    const { child, owner } = await living();
    await leftBy(tmp, { ...owner, since: 1 }, 2 * MINUTE_MS);
    expect(await liveLeases(tmp, systemClock)).toEqual([]);
    expect(await sweepDeadLeases(tmp, systemClock)).toBe(0);
    await child.kill();
    expect(await sweepDeadLeases(tmp, systemClock)).toBe(1);
  });
});

describe('the heartbeat of another host is compared with', () => {
  const STRANGER = { pid: 1, space: 'another', since: 1 };

  test('the disk’s own time, whatever the clock here says', async () => {
    const tmp = await temporaryDirectory();
    const lease = await Lease.take(tmp);
    await leftBy(tmp, STRANGER);
    const wrong = { now: () => Date.now() + 24 * 60 * MINUTE_MS, monotonic: () => systemClock.monotonic() };
    expect(await liveLeases(tmp, wrong)).toHaveLength(2);
    expect(await sweepDeadLeases(tmp, wrong)).toBe(0);
    await lease.release();
  });

  test('the time that passes here, so that one from the future is not alive for ever', async () => {
    const tmp = await temporaryDirectory();
    await leftBy(tmp, STRANGER, -24 * 60 * MINUTE_MS);
    expect(await liveLeases(tmp, systemClock)).toHaveLength(1);
    expect(await liveLeases(tmp, later(59_000))).toHaveLength(1);
    expect(await liveLeases(tmp, later(2 * MINUTE_MS))).toEqual([]);
    expect(await sweepDeadLeases(tmp, later(2 * MINUTE_MS))).toBe(1);
  });

  test('the time that passes here, so that one that was seen just now outlives a clock that is set', async () => {
    const tmp = await temporaryDirectory();
    const name = await leftBy(tmp, STRANGER);
    expect(await liveLeases(tmp, systemClock)).toHaveLength(1);
    const set = { now: () => Date.now() + 60 * MINUTE_MS, monotonic: () => systemClock.monotonic() };
    expect(await sweepDeadLeases(tmp, set)).toBe(0);
    expect(await readdir(tmp)).toEqual([name]);
  });
});

test('a heartbeat has the disk’s own time', async () => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'Date'] });
  try {
    const lease = await Lease.take(await temporaryDirectory());
    const file = join(lease.dir, 'owner.json');
    const longAgo = new Date(0);
    await utimes(file, longAgo, longAgo);
    const text = await readFile(file, 'utf8');
    vi.setSystemTime(new Date('2100-01-01'));
    vi.advanceTimersByTime(10_000);
    await vi.waitFor(async () => expect((await stat(file)).mtimeMs).toBeGreaterThan(0));
    expect((await stat(file)).mtimeMs).toBeLessThan(Date.parse('2100-01-01'));
    expect(await readFile(file, 'utf8')).toBe(text);
    await lease.release();
  } finally {
    vi.useRealTimers();
  }
});

describe('left alone is', () => {
  test('what a process of another host touched lately', async () => {
    const tmp = await temporaryDirectory();
    const name = await leftBy(tmp, { pid: await deadPid(), space: 'another' }, MINUTE_MS / 2);
    expect(await sweepDeadLeases(tmp, systemClock)).toBe(0);
    expect(await readdir(tmp)).toEqual([name]);
  });

  test('what is so new that nobody has signed it yet', async () => {
    const tmp = await temporaryDirectory();
    await leftBy(tmp, null);
    expect(await sweepDeadLeases(tmp, systemClock)).toBe(0);
  });

  test.skipIf(spawnSync(CONTAINER[0], [...CONTAINER.slice(1), 'true']).status !== 0)(
    'what processes in two containers work on, of which each has the process id 1',
    async () => {
      const dir = await temporaryDirectory();
      const children = [start([dir, 'hold'], CONTAINER), start([dir, 'hold'], CONTAINER)];
      await Promise.all(children.map(child => child.said(2)));
      const tmp = join(dir, 'v1/tmp');
      expect((await liveLeases(tmp, systemClock)).map(({ pid }) => pid)).toEqual([1, 1]);
      expect(await sweepDeadLeases(tmp, systemClock)).toBe(0);
      await Promise.all(children.map(child => child.kill()));
      expect(await liveLeases(tmp, later(2 * MINUTE_MS))).toEqual([]);
      expect(await sweepDeadLeases(tmp, later(2 * MINUTE_MS))).toBe(2);
    },
  );

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
  await sweepDeadLeases(join(dir, 'v1/tmp'), later(2 * MINUTE_MS));
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
  expect(store.refs.entries()).toHaveLength(1);
  expect(await readdir(join(dir, 'v1/tmp'))).toHaveLength(1);
});
