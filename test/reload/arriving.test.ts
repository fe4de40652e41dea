import { randomBytes } from 'node:crypto';
import { readdir, readFile, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { SidecarError } from '../../src/domain/errors.ts';
import { Vanished } from '../../src/store/disk/vanished.ts';
import { filesBelow, litter, OWN, ofVersion } from '../store/support.ts';
import { bytesOf, MIB, Reader, ROOT, STAYS, setUp, sha256, wanted } from './arriving-support.ts';
import { ManualClock } from './support.ts';

// Whether a try is made again is what these tests are about, not when.
vi.mock('../../src/policy/backoff.ts', async original => ({
  ...(await original<typeof import('../../src/policy/backoff.ts')>()),
  backoffMs: () => 5,
}));

const SIZE = 12 * MIB + 77;
const LARGE = randomBytes(SIZE);
const OTHER = randomBytes(SIZE);
const MIDDLE = randomBytes(2 * MIB);
const SMALL = Buffer.from('{"a": 1}');

function gate() {
  const { promise: until, resolve: open } = Promise.withResolvers<void>();
  return { until, open };
}

/** A version of one large file, whose second half the server keeps back. */
async function half(change: { readonly cut?: true } = {}) {
  const { until, open } = gate();
  const stand = await setUp({ 'm/large.bin': LARGE });
  const after = 6 * MIB;
  stand.server.act = (path, n) => {
    if (path !== 'm/large.bin' || n > 0) return {};
    return change.cut === true ? { cutAfter: after } : { hold: { after, until } };
  };
  return { ...stand, open, after };
}

/** How many files below it this process has open. */
async function openFiles(dir: string): Promise<number> {
  const fds = await readdir('/proc/self/fd');
  const paths = await Promise.all(fds.map(fd => readlink(join('/proc/self/fd', fd)).catch(() => '')));
  return paths.filter(path => path.startsWith(dir)).length;
}

describe('a miss', () => {
  test('of ten clients is one download, and each of them gets every file', async () => {
    const { server, arrive } = await setUp({
      'm/large.bin': LARGE,
      'm/middle.bin': MIDDLE,
      'm/small': SMALL,
    });
    const reading = Array.from({ length: 10 }, async () => {
      const arriving = arrive();
      const listed = await arriving.listed;
      const files = listed.map(async ({ path }) => [path, sha256(await bytesOf(arriving.file(path)))]);
      return { listed, files: Object.fromEntries(await Promise.all(files)) };
    });
    for (const { listed, files } of await Promise.all(reading)) {
      expect(listed).toContainEqual({ path: 'large.bin', size: SIZE });
      expect(files).toEqual({
        MLmodel: sha256(Buffer.from('flavors: {}\n')),
        'large.bin': sha256(LARGE),
        'middle.bin': sha256(MIDDLE),
        small: sha256(SMALL),
      });
    }
    expect(server.asked.map(({ path }) => path).toSorted()).toEqual(
      ['?m', 'm/MLmodel', 'm/large.bin', 'm/middle.bin', 'm/small'].toSorted(),
    );
  });

  test('gives what there is of a large file while the rest is still to come', async () => {
    const { arrive, open, after } = await half();
    const arriving = arrive();
    const reader = new Reader(arriving.file('large.bin'));
    await reader.upTo(after - MIB / 2);
    expect(reader.bytes.equals(LARGE.subarray(0, reader.bytes.byteLength))).toBe(true);
    open();
    await reader.upTo(Number.POSITIVE_INFINITY);
    expect(sha256(reader.bytes)).toBe(sha256(LARGE));
    await arriving.done;
  });

  test('gives parts: before, over and behind what there is', async () => {
    const { arrive, open, after } = await half();
    const file = arrive().file('large.bin');
    expect((await bytesOf(file, 100, MIB)).equals(LARGE.subarray(100, MIB))).toBe(true);
    const later = [bytesOf(file, after - 10, after + 10), bytesOf(file, SIZE - 5), bytesOf(file, SIZE)];
    open();
    const [over, behind, none] = await Promise.all(later);
    expect(over?.equals(LARGE.subarray(after - 10, after + 10))).toBe(true);
    expect(behind?.equals(LARGE.subarray(SIZE - 5))).toBe(true);
    expect(none?.byteLength).toBe(0);
  });

  test('holds up nobody for a reader that does not read, which gets the rest from what is stored', async () => {
    const { arrive, open, server } = await half();
    const arriving = arrive();
    const slow = new Reader(arriving.file('large.bin'));
    await slow.upTo(1);
    const other = bytesOf(arriving.file('large.bin'));
    open();
    expect(sha256(await other)).toBe(sha256(LARGE));
    await arriving.done;
    expect(slow.bytes.byteLength).toBeLessThanOrEqual(256 * 1024);
    await slow.upTo(Number.POSITIVE_INFINITY);
    expect(sha256(slow.bytes)).toBe(sha256(LARGE));
    expect(server.fetched.filter(path => path === 'm/large.bin')).toHaveLength(1);
  });

  test('costs one buffer of 256 KiB for each reader, however large the file is', async () => {
    const { arrive, open } = await half();
    const arriving = arrive();
    const buffers = new Set<ArrayBufferLike>();
    for (let round = 0; round < 2; round++) {
      for await (const { buffer } of arriving.file('large.bin').read(0, null, STAYS)) {
        buffers.add(buffer);
        open();
      }
      await arriving.done;
    }
    expect([...buffers].map(({ byteLength }) => byteLength)).toEqual([256 * 1024, 256 * 1024]);
  });

  test('tells the size of a file that is listed without one once it has come', async () => {
    const { server, arrive, until, open } = { ...(await setUp({ 'm/middle.bin': MIDDLE })), ...gate() };
    server.unsized.add('m/middle.bin');
    server.act = path => (path === 'm/middle.bin' ? { hold: { after: MIB, until } } : {});
    const arriving = arrive();
    expect(await arriving.listed).toContainEqual({ path: 'middle.bin', size: null });
    const file = arriving.file('middle.bin');
    const told = vi.fn<(size: number) => void>();
    const size = file.size(STAYS).then(told);
    await bytesOf(arriving.file('MLmodel'));
    expect(told).not.toHaveBeenCalled();
    open();
    await size;
    expect(told).toHaveBeenCalledWith(MIDDLE.byteLength);
    expect(sha256(await bytesOf(file))).toBe(sha256(MIDDLE));
  });

  test('knows no other files than those that are listed', async () => {
    const { arrive } = await setUp({});
    const file = arrive().file('../../state/secret');
    await expect(file.size(STAYS)).rejects.toMatchObject({ code: 'artifact_missing' });
    await expect(bytesOf(file)).rejects.toMatchObject({ code: 'artifact_missing' });
  });

  test('tells when something last came', async () => {
    const clock = new ManualClock();
    const { until, open } = gate();
    const { server, arrive } = await setUp({ 'm/large.bin': LARGE }, clock);
    server.act = path => (path === 'm/large.bin' ? { hold: { after: MIB, until } } : {});
    const arriving = arrive();
    expect(arriving.lastProgressAt).toBe(clock.monotonic());
    const reader = new Reader(arriving.file('large.bin'));
    await reader.upTo(MIB / 2);
    clock.advance(3_000);
    expect(arriving.lastProgressAt).toBe(clock.monotonic() - 3_000);
    open();
    await reader.upTo(2 * MIB);
    expect(arriving.lastProgressAt).toBe(clock.monotonic());
    await arriving.done;
  });
});

describe('a reader that leaves', () => {
  test('ends its own wait, keeps nothing open, and ends nothing else', async () => {
    const { arrive, open, server, dir } = await half();
    const arriving = arrive();
    const leaving = new AbortController();
    const aborted = new Reader(arriving.file('large.bin'), leaving.signal);
    const gone = new Reader(arriving.file('large.bin'));
    await Promise.all([aborted.upTo(MIB), gone.upTo(MIB)]);
    expect(await openFiles(dir)).toBe(3);
    const ends = Promise.allSettled([aborted.upTo(SIZE), gone.upTo(SIZE)]);
    leaving.abort(new SidecarError('deadline_exceeded', 'too late'));
    await gone.leave();
    expect(await ends).toMatchObject([
      { status: 'rejected', reason: { code: 'deadline_exceeded' } },
      { status: 'rejected', reason: { message: 'The reader has left.' } },
    ]);
    await expect.poll(() => openFiles(dir)).toBe(1);
    open();
    expect((await arriving.done).source).toBe('mlflow');
    expect(server.fetched.filter(path => path === 'm/large.bin')).toHaveLength(1);
  });
});

describe('a download', () => {
  test('that is in the store already is read from there', async () => {
    const { server, arrive } = await setUp({ 'm/large.bin': LARGE, 'm/small': SMALL });
    await arrive().done;
    server.asked.length = 0;
    const again = arrive();
    expect(await again.listed).toContainEqual({ path: 'small', size: SMALL.byteLength });
    expect(await again.file('large.bin').size(STAYS)).toBe(SIZE);
    expect((await bytesOf(again.file('large.bin'), 5, MIB)).equals(LARGE.subarray(5, MIB))).toBe(true);
    expect((await bytesOf(again.file('small'), 1)).equals(SMALL.subarray(1))).toBe(true);
    expect((await again.done).source).toBe('cache');
    expect(server.asked).toEqual([]);
  });

  test('is one with that of a run, whose leaving does not end it', async () => {
    const { fetcher, store, arrive, open, server } = await half();
    const leaving = new AbortController();
    const run = fetcher.obtain(store, wanted(), leaving.signal);
    const arriving = arrive();
    const reader = new Reader(arriving.file('large.bin'));
    await reader.upTo(MIB);
    leaving.abort(new Error('nobody wants it'));
    await expect(run).rejects.toThrow('nobody wants it');
    const joined = fetcher.obtain(store, wanted(), STAYS);
    open();
    expect(await joined).toEqual(await arriving.done);
    await reader.upTo(SIZE);
    expect(sha256(reader.bytes)).toBe(sha256(LARGE));
    expect(server.fetched.toSorted()).toEqual(['m/MLmodel', 'm/large.bin']);
  });

  test('that has a file from another download follows it there', async () => {
    const { arrive, open, after, server } = await half();
    server.files.set('n/more', SMALL);
    const first = arrive();
    await new Reader(first.file('large.bin')).upTo(MIB);
    const second = arrive({ root: ofVersion([...ROOT, 'mlflow-artifacts:/n']) });
    const reader = new Reader(second.file('large.bin'));
    await reader.upTo(after - MIB);
    const before = second.lastProgressAt;
    open();
    await reader.upTo(SIZE);
    expect(second.lastProgressAt).toBeGreaterThan(before);
    expect(sha256(reader.bytes)).toBe(sha256(LARGE));
    expect(sha256(await bytesOf(second.file('more')))).toBe(sha256(SMALL));
    await Promise.all([first.done, second.done]);
    expect(server.fetched.filter(path => path === 'm/large.bin')).toHaveLength(1);
  });

  test('that breaks off is gone on with, and its readers get each byte once', async () => {
    const { arrive, server } = await half({ cut: true });
    const arriving = arrive();
    const reader = new Reader(arriving.file('large.bin'));
    await reader.upTo(Number.POSITIVE_INFINITY);
    expect(reader.bytes.byteLength).toBe(SIZE);
    expect(sha256(reader.bytes)).toBe(sha256(LARGE));
    expect(server.asked.filter(({ path }) => path === 'm/large.bin').map(({ range }) => range)).toEqual([
      undefined,
      expect.stringMatching(/^bytes=[1-9]\d+-/),
    ]);
    expect(arriving.lastFailure).toMatchObject({ code: 'artifact_corrupt' });
    await arriving.done;
  });

  test('that breaks off for good tells its readers why, and leaves nothing that looks whole', async () => {
    const { arrive, server, dir } = await half();
    server.act = (path, n) =>
      path === 'm/large.bin' ? (n === 0 ? { cutAfter: 6 * MIB } : { status: 403 }) : {};
    const arriving = arrive();
    const reader = new Reader(arriving.file('large.bin'));
    await reader.upTo(MIB);
    const failure: unknown = await reader.upTo(SIZE).catch(error => error);
    expect(failure).toBeInstanceOf(SidecarError);
    expect(failure).toMatchObject({ code: 'access_denied' });
    expect(reader.bytes.byteLength).toBeLessThan(SIZE);
    await expect(arriving.done).rejects.toBe(failure);
    await expect(bytesOf(arriving.file('large.bin'))).rejects.toBe(failure);
    await expect(bytesOf(arriving.file('MLmodel'))).rejects.toBe(failure);
    expect(await filesBelow(join(dir, 'v1/snapshots'))).toEqual([]);
    expect(await litter(dir)).toEqual([]);
    expect(arrive()).not.toBe(arriving);
  });

  test('that has to begin again, since its files were removed by another process, has the same readers', async () => {
    const { arrive, open, server, store } = await half();
    vi.spyOn(store, 'commit').mockRejectedValueOnce(new Vanished());
    const arriving = arrive();
    const early = bytesOf(arriving.file('large.bin'));
    open();
    expect(sha256(await early)).toBe(sha256(LARGE));
    await expect.poll(() => server.asked.filter(({ path }) => path === '?m').length).toBe(2);
    expect(sha256(await bytesOf(arriving.file('large.bin')))).toBe(sha256(LARGE));
    expect(sha256(await bytesOf(arriving.file('MLmodel')))).toBe(sha256(Buffer.from('flavors: {}\n')));
    await arriving.done;
  });

  test('that has no listing says so, to whoever asks', async () => {
    const { arrive, server } = await setUp({});
    server.files.clear();
    const arriving = arrive();
    await expect(arriving.listed).rejects.toMatchObject({ code: 'artifact_missing' });
    await expect(arriving.file('MLmodel').size(STAYS)).rejects.toMatchObject({ code: 'artifact_missing' });
  });

  test('that fails while nobody listens leaves no rejection behind', async () => {
    const { fetcher, store, server } = await setUp({});
    server.files.clear();
    const unheard = vi.fn<(reason: unknown) => void>();
    process.on('unhandledRejection', unheard);
    fetcher.arrive(store, wanted());
    await expect(fetcher.obtain(store, wanted(), STAYS)).rejects.toMatchObject({ code: 'artifact_missing' });
    await new Promise(resolve => setImmediate(resolve));
    process.off('unhandledRejection', unheard);
    expect(unheard).not.toHaveBeenCalled();
  });
});

describe('two contents', () => {
  test.each<[string, { readonly etag?: null }]>([
    ['by its ETag', {}],
    ['as far as anybody can tell', { etag: null }],
  ])('are never put together: a file that is another one %s', async (_, tag) => {
    const { arrive, server, store } = await half();
    const { until, open } = gate();
    server.act = (path, n) => {
      if (path !== 'm/large.bin') return {};
      if (n === 0) return { cutAfter: 6 * MIB, ...tag };
      server.files.set(path, OTHER);
      return { hold: { after: 5 * MIB, until }, ...tag };
    };
    const arriving = arrive();
    const file = arriving.file('large.bin');
    const reader = new Reader(file);
    await reader.upTo(MIB);
    await expect(reader.upTo(SIZE)).rejects.toMatchObject({ code: 'artifact_corrupt' });
    expect(reader.bytes.equals(LARGE.subarray(0, reader.bytes.byteLength))).toBe(true);
    const late = new Reader(file);
    await late.upTo(MIB);
    open();
    await late.upTo(SIZE);
    expect(sha256(late.bytes)).toBe(sha256(OTHER));
    const { fetched } = await arriving.done;
    expect(sha256(await bytesOf(file))).toBe(sha256(OTHER));
    const path = join(store.layout.snapshot(fetched.snapshot), 'large.bin');
    expect(sha256(await readFile(path))).toBe(sha256(OTHER));
  });

  test('nor is what an earlier try left given before its server has named it', async () => {
    const { arrive, server, store } = await half();
    server.act = (path, n) =>
      path === 'm/large.bin' ? (n === 0 ? { cutAfter: 10 * MIB } : { status: 403 }) : {};
    await expect(arrive().done).rejects.toMatchObject({ code: 'access_denied' });
    expect(await store.partials.list()).toHaveLength(1);
    const reader = new Reader(arrive().file('large.bin'));
    await expect(reader.upTo(1)).rejects.toMatchObject({ code: 'access_denied' });
    expect(reader.bytes.byteLength).toBe(0);
    server.act = () => ({});
    const whole = await bytesOf(arrive().file('large.bin'));
    expect(sha256(whole)).toBe(sha256(LARGE));
    expect(server.asked.at(-1)?.range ?? server.asked.at(-2)?.range).toMatch(/^bytes=[1-9]/);
  });

  test('the last byte of a file that goes on behind its end is given to nobody', async () => {
    const { arrive, server } = await half();
    server.act = path => (path === 'm/large.bin' ? { tooLong: true, etag: null } : {});
    const arriving = arrive();
    const reader = new Reader(arriving.file('large.bin'));
    await expect(reader.upTo(SIZE)).rejects.toMatchObject({ code: 'artifact_corrupt' });
    expect(reader.bytes.byteLength).toBeLessThan(SIZE);
    await expect(arriving.done).rejects.toMatchObject({ code: 'artifact_corrupt' });
  });

  test('of two workspaces are two downloads, each from its own', async () => {
    const { arrive, server } = await setUp({ 'm/small': SMALL });
    const other = { scope: { id: `${OWN.id}-other`, own: false }, workspace: 'other' };
    await Promise.all([arrive().done, arrive(other).done]);
    const asked = server.asked.filter(({ path }) => path === 'm/small' || path === '?m');
    expect(asked.map(({ path, workspace = 'none' }) => `${path} ${String(workspace)}`).toSorted()).toEqual([
      '?m none',
      '?m other',
      'm/small none',
      'm/small other',
    ]);
  });
});
