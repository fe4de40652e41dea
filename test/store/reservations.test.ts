import { statfs } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { diskFull } from '../../src/store/collect/no-room.ts';
import { HOUR_MS, load, openLimited, SIZE, snapshotsIn } from './collect-support.ts';
import { bodyOf, litter } from './support.ts';

const KIB = 1_024;
const MIB = 1_048_576;

async function drained(body: AsyncIterable<Uint8Array>): Promise<number> {
  let bytes = 0;
  for await (const chunk of body) bytes += chunk.byteLength;
  return bytes;
}

/** Chunks of 64 KiB. */
async function* stream(bytes: number): AsyncGenerator<Uint8Array> {
  for (let sent = 0; sent < bytes; sent += 64 * KIB) yield new Uint8Array(64 * KIB);
}

test('room is given as long as there is some, and given back', async () => {
  const { store } = await openLimited({ maxBytes: 100 * KIB });
  const first = await store.reserve(60 * KIB);
  await expect(store.reserve(60 * KIB)).rejects.toMatchObject({ code: 'disk_full' });
  const second = await store.reserve(40 * KIB);
  first.release();
  second.release();
  (await store.reserve(100 * KIB)).release();
});

test('of many who ask at once only as many get room as have it', async () => {
  const { store } = await openLimited({ maxBytes: 100 * KIB });
  const asked = await Promise.allSettled(Array.from({ length: 10 }, () => store.reserve(30 * KIB)));
  expect(asked.filter(({ status }) => status === 'fulfilled')).toHaveLength(3);
});

describe('who gets no room is told the numbers and the option’s name:', () => {
  test('a version that is larger than the whole cache', async () => {
    const { store } = await openLimited({ maxBytes: 100 * KIB });
    await expect(store.reserve(100 * KIB + 1)).rejects.toMatchObject({
      code: 'disk_full',
      message:
        'The version needs 100 KiB, more than the whole cache may hold: SIDECAR_CACHE_MAX_BYTES is 100 KiB.',
      hint: 'Raise SIDECAR_CACHE_MAX_BYTES.',
    });
  });

  test('a version for which nothing may go', async () => {
    const opened = await openLimited({ maxBytes: 2 * SIZE });
    await load(opened, 1);
    await load(opened, 2);
    const room = opened.store.reserve(12 * KIB);
    await expect(room).rejects.toMatchObject({ code: 'disk_full', hint: 'Raise SIDECAR_CACHE_MAX_BYTES.' });
    await expect(room).rejects.toThrow(
      /^The cache has no room for the 12 KiB that the version needs; 12 KiB are lacking\. It holds 20 KiB of 20 KiB \(SIDECAR_CACHE_MAX_BYTES\)\. On its file system .+ of .+ are free, of which 15 % \(.+\) must stay so\. Most is held by models:\/churn\/Production \(2 versions, 20 KiB\)\.$/,
    );
    await expect(room).rejects.toSatisfy((error: Error) => error.message.length <= 400);
  });

  test('a version for a file system on which too little is free to begin with', () => {
    const plan = {
      removals: [],
      snapshots: 0,
      usedBytes: 0,
      freedBytes: 0,
      gracedBytes: 0,
      freedOverheadBytes: 0,
      holders: '',
    };
    const short = { excessBytes: 10 * MIB, shortBytes: 10 * MIB };
    const collected = { plan: { ...plan, ...short }, usedBytes: 0, shortBytes: 10 * MIB };
    const disk = { freeBytes: 6 * MIB, minFreeBytes: 15 * MIB, totalBytes: 100 * MIB };
    expect(diskFull(MIB, 1_000 * MIB, collected, disk, 0)).toMatchObject({
      message:
        'The cache has no room for the 1.0 MiB that the version needs; 10 MiB are lacking. It holds 0 bytes of 1000 MiB (SIDECAR_CACHE_MAX_BYTES). On its file system only 6.0 MiB of 100 MiB are free as it is, less than the 15 % (15 MiB) that must stay so: nothing can be added.',
      hint: 'Free space on the file system of SIDECAR_CACHE_DIR, or move the cache to a larger one.',
    });
  });

  test('a version for which the file system has no room', async () => {
    const { store, dir } = await openLimited({ maxBytes: Number.MAX_SAFE_INTEGER });
    const { bavail, bsize } = await statfs(dir);
    await expect(store.reserve(bavail * bsize)).rejects.toMatchObject({
      code: 'disk_full',
      hint: 'Free space on the file system of SIDECAR_CACHE_DIR, or move the cache to a larger one.',
    });
  });
});

test('a process that does not own the cache gets room by asking the owner', async () => {
  const owner = await openLimited({ maxBytes: 3 * SIZE });
  const other = await openLimited({ maxBytes: 3 * SIZE }, owner.dir);
  for (const version of [1, 2, 3]) await load(other, version);
  for (const { clock } of [owner, other]) clock.advance(HOUR_MS);
  await load(other, 4);
  expect(other.store.ownership.isOwner()).toBe(false);
  expect(owner.events.filter(event => event.type === 'cache_collected')).toMatchObject([
    { snapshots: 1, why: ['space'] },
  ]);
  expect(await snapshotsIn(owner.dir)).toHaveLength(3);
  expect(await litter(owner.dir)).toEqual([]);
});

test('one that is not answered is refused after a few seconds', async () => {
  const owner = await openLimited({ maxBytes: 3 * SIZE });
  const other = await openLimited({ maxBytes: SIZE }, owner.dir);
  await load(other, 1);
  owner.store.ownership.release();
  await expect(load(other, 2)).rejects.toMatchObject({ code: 'disk_full' });
  expect(await litter(owner.dir)).toEqual([]);
}, 15_000);

describe('a body of unknown size', () => {
  test('passes where there is room for it', async () => {
    const { store } = await openLimited({ maxBytes: 10 * MIB });
    const room = await store.reserve(0);
    expect(await drained(room.metered(stream(3 * MIB)))).toBe(3 * MIB);
    expect(await drained(room.metered(bodyOf('small')))).toBe(5);
    room.release();
    (await store.reserve(10 * MIB)).release();
  });

  test('is stopped where there is no more', async () => {
    const { store } = await openLimited({ maxBytes: 3 * MIB });
    const room = await store.reserve(MIB);
    let passed = 0;
    const body = room.metered(stream(20 * MIB));
    const reading = async () => {
      for await (const chunk of body) passed += chunk.byteLength;
    };
    await expect(reading()).rejects.toMatchObject({ code: 'disk_full' });
    expect(passed).toBe(2 * MIB);
    room.release();
    (await store.reserve(3 * MIB)).release();
  });
});

test('what is kept and what is free is known once somebody asked for room', async () => {
  const opened = await openLimited({ maxBytes: 10 * SIZE });
  expect(opened.store.space).toEqual({ usedBytes: null, freeBytes: null });
  await load(opened, 1);
  expect(opened.store.space).toEqual({ usedBytes: SIZE, freeBytes: expect.any(Number) });
});
