import { createHash } from 'node:crypto';
import { chmod, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { bodyOf, commitAll, filesBelow, litter, OWN, ofVersion, openStore, takeAll } from './support.ts';

const ROOT_A = ['a'] as const;
const ROOT_B = ['b'] as const;

function sha256(content: string): string {
  return createHash('sha256').update(content).digest('hex');
}

test('a committed body is kept under its digest, read-only, with the bytes that came', async () => {
  const { store, dir } = await openStore();
  const intake = await store.intake();
  const blob = await intake.take(bodyOf('hel', 'lo'), 5);
  expect(blob).toEqual({ size: 5, sha256: sha256('hello') });
  await intake.commit([blob]);
  const path = join(dir, 'v1/blobs/sha256', blob.sha256.slice(0, 2), blob.sha256);
  expect(await readFile(path, 'utf8')).toBe('hello');
  expect((await stat(path)).mode & 0o7777).toBe(0o444);
  expect(await litter(dir)).toEqual([]);
});

test('a body of unknown length is taken as it comes, and an empty file is a file', async () => {
  const { store } = await openStore();
  await expect((await store.intake()).take(bodyOf('hello'), null)).resolves.toMatchObject({ size: 5 });
  await expect((await store.intake()).take(bodyOf(), 0)).resolves.toEqual({ size: 0, sha256: sha256('') });
});

describe('nothing can be seen and no litter is left of a body that', () => {
  async function* breaksOff() {
    yield Buffer.from('hel');
    throw new Error('connection reset');
  }

  test.each([
    ['is longer than promised', () => bodyOf('hello!'), 5, 'more than 5 bytes'],
    ['is shorter than promised', () => bodyOf('hell'), 5, 'has 4 bytes'],
    ['is empty where bytes were promised', () => bodyOf(), 5, 'has 0 bytes'],
    ['is there where nothing was promised', () => bodyOf('x'), 0, 'more than 0 bytes'],
    ['breaks off', breaksOff, 5, 'connection reset'],
    ['breaks off after an unknown length', breaksOff, null, 'connection reset'],
  ])('%s', async (_, body, size, message) => {
    const { store, dir } = await openStore();
    await expect((await store.intake()).take(body(), size)).rejects.toThrow(message);
    expect(await filesBelow(join(dir, 'v1/blobs'))).toEqual([]);
    expect(await litter(dir)).toEqual([]);
  });

  test('has the wrong size is artifact_corrupt', async () => {
    const { store } = await openStore();
    await expect((await store.intake()).take(bodyOf('hell'), 5)).rejects.toMatchObject({
      code: 'artifact_corrupt',
    });
    await expect((await store.intake()).take(bodyOf('hello!'), 5)).rejects.toMatchObject({
      code: 'artifact_corrupt',
    });
  });
});

test('a body that goes on for ever is given up at the first byte too many', async () => {
  const { store } = await openStore();
  let sent = 0;
  let closed = false;
  async function* endless() {
    try {
      for (; ; sent++) yield new Uint8Array(1_000);
    } finally {
      closed = true;
    }
  }
  await expect((await store.intake()).take(endless(), 10_500)).rejects.toMatchObject({
    code: 'artifact_corrupt',
  });
  expect(sent).toBe(10);
  expect(closed).toBe(true);
});

describe('until it is committed a body cannot be seen', () => {
  test('and leaves nothing behind where the intake is closed without', async () => {
    const { store, dir } = await openStore();
    const intake = await store.intake();
    await takeAll(intake, { a: 'hello', b: 'world', c: 'hello' });
    expect(await filesBelow(join(dir, 'v1/blobs'))).toEqual([]);
    expect(await litter(dir)).toHaveLength(2);
    await intake.close();
    expect(await litter(dir)).toEqual([]);
  });

  test('and stays for another intake that wants it, which took it too or shares it', async () => {
    const { store, dir } = await openStore();
    const [leaving, taking, sharing] = [await store.intake(), await store.intake(), await store.intake()];
    const blob = await leaving.take(bodyOf('hello'), 5);
    await taking.take(bodyOf('hello'), 5);
    sharing.share(blob);
    await leaving.close();
    await taking.close();
    await sharing.commit([blob]);
    await sharing.close();
    expect(await readFile(store.layout.blob(blob.sha256), 'utf8')).toBe('hello');
    expect(await litter(dir)).toEqual([]);
  });
});

test('the same bytes twice are one file, and the first one stays', async () => {
  const { store, dir } = await openStore();
  await commitAll(store, { MLmodel: 'hello' }, ROOT_A);
  const { ino } = await stat(store.layout.blob(sha256('hello')));
  await commitAll(store, { MLmodel: 'hello' }, ROOT_B);
  expect((await stat(store.layout.blob(sha256('hello')))).ino).toBe(ino);
  expect(await litter(dir)).toEqual([]);
});

test('versions that share a file and are committed at the same moment are all whole', async () => {
  const { store, dir } = await openStore();
  for (let round = 0; round < 40; round++) {
    const intakes = await Promise.all(Array.from({ length: 10 }, () => store.intake()));
    const manifests = await Promise.all(
      intakes.map(intake => takeAll(intake, { MLmodel: `shared ${round}` })),
    );
    const committing = manifests.map(async (manifest, at) => {
      const intake = intakes[at] ?? (await store.intake());
      const { snapshot } = await store.commit(OWN, ofVersion([`${round}/${at}`]), manifest, intake);
      return await readFile(join(store.layout.snapshot(snapshot), 'MLmodel'), 'utf8');
    });
    const settled = await Promise.allSettled(committing);
    await Promise.all(intakes.map(intake => intake.close()));
    expect(settled).toEqual(intakes.map(() => ({ status: 'fulfilled', value: `shared ${round}` })));
  }
  expect(await litter(dir)).toEqual([]);
});

test.each([
  ['of another length', 'hell'],
  ['of the same length', 'hellO'],
  ['without a byte', ''],
])('a blob that was damaged, %s, is replaced and not shared', async (_, damaged) => {
  const { store } = await openStore();
  await commitAll(store, { MLmodel: 'hello' }, ROOT_A);
  const path = store.layout.blob(sha256('hello'));
  await chmod(path, 0o644);
  await writeFile(path, damaged);
  const { snapshot } = await commitAll(store, { MLmodel: 'hello' }, ROOT_B);
  expect(await readFile(path, 'utf8')).toBe('hello');
  expect((await stat(path)).mode & 0o7777).toBe(0o444);
  expect(await readFile(join(store.layout.snapshot(snapshot), 'MLmodel'), 'utf8')).toBe('hello');
});

test('a disk that is full is told as it is, and nothing of the body is left', async () => {
  const { store, dir } = await openStore();
  async function* full() {
    yield Buffer.from('x');
    throw Object.assign(new Error('no space left on device'), { code: 'ENOSPC' });
  }
  await expect((await store.intake()).take(full(), null)).rejects.toMatchObject({ code: 'ENOSPC' });
  expect(await filesBelow(join(dir, 'v1/blobs'))).toEqual([]);
  expect(await litter(dir)).toEqual([]);
});
