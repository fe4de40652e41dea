import { randomBytes } from 'node:crypto';
import { readdir, readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { PartLimits } from '../../src/artifacts/large.ts';
import { filesBelow, litter, openStore, reopen } from '../store/support.ts';
import { type Act, type Asked, drive, FileServer, MIB, sha256 } from './large-support.ts';

/** Small parts, so that a small file has many. */
const PARTS: PartLimits = { above: 4 * MIB, size: 2 * MIB, inFlight: 4 };
const IN_ONE_GO: PartLimits = { ...PARTS, above: Number.POSITIVE_INFINITY };
const SIZE = 14 * MIB + 123;
const ONE = randomBytes(SIZE);
const OTHER = randomBytes(SIZE);

async function setUp(content = ONE) {
  const server = new FileServer(content);
  return { server, source: await server.source(), opened: await openStore() };
}

function froms(asked: readonly Asked[]): readonly number[] {
  return asked.map(({ range }) => range?.from ?? -1).toSorted((a, b) => a - b);
}

describe('a file above the limit', () => {
  test('comes in parts, the first alone, and the others only of its content', async () => {
    const { server, source, opened } = await setUp();
    const blob = await drive(opened.store, source, { size: SIZE, parts: PARTS });
    expect(blob).toEqual({ size: SIZE, sha256: sha256(ONE) });
    expect(froms(server.asked)).toEqual(Array.from({ length: 8 }, (_, n) => n * PARTS.size));
    expect(server.asked[0]).toEqual({ range: { from: 0, to: PARTS.size - 1 }, ifRange: null });
    expect(new Set(server.asked.slice(1).map(({ ifRange }) => ifRange))).toEqual(new Set([server.etag]));
    expect(sha256(await readFile(opened.store.layout.blob(blob.sha256)))).toBe(sha256(ONE));
    expect(await litter(opened.dir)).toEqual([]);
  });

  test.each<[string, Act, number]>([
    ['ignores Range', { ignoresRange: true }, 1],
    ['has a weak ETag', { etag: 'W/"1"' }, 2],
    ['has no ETag', { etag: null }, 2],
    ['names another size', { contentRange: `bytes 0-${PARTS.size - 1}/${SIZE + 1}` }, 2],
  ])('comes in one go where the server %s', async (_, act, requests) => {
    const { server, source, opened } = await setUp();
    server.act = () => act;
    const blob = await drive(opened.store, source, { size: SIZE, parts: PARTS });
    expect(blob.sha256).toBe(sha256(ONE));
    expect(server.asked).toHaveLength(requests);
    expect(server.asked.at(-1)?.range ?? null).toEqual(requests === 1 ? server.asked[0]?.range : null);
  });

  test('goes on with a part that was cut from where it was cut', async () => {
    const { server, source, opened } = await setUp();
    server.act = ({ range }) => (range?.from === 4 * MIB ? { cutAfter: MIB } : {});
    const blob = await drive(opened.store, source, { size: SIZE, parts: PARTS });
    expect(blob.sha256).toBe(sha256(ONE));
    expect(server.asked).toHaveLength(9);
    const again = server.asked.filter(({ range }) => range?.to === 6 * MIB - 1);
    expect(again[0]?.range?.from).toBe(4 * MIB);
    expect(again[1]?.range?.from).toBeGreaterThan(4 * MIB);
    expect(again[1]?.ifRange).toBe(server.etag);
  });

  test.each<[string, (server: FileServer) => Act]>([
    ['the file is another one by then', () => ({})],
    ['the server ignores If-Range', server => ({ ignoresIfRange: true, etag: server.etag })],
  ])('starts again from nothing where %s', async (_, act) => {
    const { server, source, opened } = await setUp();
    server.act = (_asked, n) => {
      if (n === 3) server.content = OTHER;
      return act(server);
    };
    const blob = await drive(opened.store, source, { size: SIZE, parts: PARTS });
    expect(blob.sha256).toBe(sha256(OTHER));
    expect(sha256(await readFile(opened.store.layout.blob(blob.sha256)))).toBe(sha256(OTHER));
  });

  test.each<[string, Act]>([
    ['another part', { contentRange: `bytes 1-${PARTS.size}/${SIZE}` }],
    ['a part that is shorter than asked', { short: true }],
    ['a part without a name', { contentRange: 'bytes */5' }],
    ['416', { status: 416 }],
  ])('starts again, and never puts together, where a later answer is %s', async (_, act) => {
    const { server, source, opened } = await setUp();
    server.act = (_asked, n) => (n === 2 ? act : {});
    const blob = await drive(opened.store, source, { size: SIZE, parts: PARTS });
    expect(blob.sha256).toBe(sha256(ONE));
    expect(server.asked.filter(({ range }) => range?.from === 0)).toHaveLength(2);
  });

  test('is given up where every later part is wrong, and leaves nothing that can be seen', async () => {
    const { server, source, opened } = await setUp();
    server.act = ({ range }) => (range?.from === 0 ? {} : { short: true });
    await expect(drive(opened.store, source, { size: SIZE, parts: PARTS })).rejects.toMatchObject({
      code: 'artifact_corrupt',
    });
    expect(await filesBelow(join(opened.dir, 'v1/blobs'))).toEqual([]);
    expect(await litter(opened.dir)).toEqual([]);
  });
});

describe('what was cut', () => {
  const spec = { size: SIZE, parts: IN_ONE_GO };

  test('is gone on with at once, by If-Range', async () => {
    const { server, source, opened } = await setUp();
    server.act = (_, n) => (n === 0 ? { cutAfter: 10 * MIB } : {});
    expect((await drive(opened.store, source, spec)).sha256).toBe(sha256(ONE));
    expect(server.asked).toHaveLength(2);
    expect(server.asked[1]?.ifRange).toBe(server.etag);
    expect(server.asked[1]?.range?.from).toBeGreaterThan(9 * MIB);
  });

  /** Three tries that get 10 MiB in all. */
  async function leave(parts: PartLimits = IN_ONE_GO) {
    const set = await setUp();
    set.server.act = (_, n) => ({ cutAfter: n === 0 ? 10 * MIB : 0 });
    await expect(drive(set.opened.store, set.source, { ...spec, parts })).rejects.toThrow('broke off');
    set.server.act = () => ({});
    set.server.asked.length = 0;
    return set;
  }

  async function partial(dir: string): Promise<string> {
    const [name = ''] = await readdir(join(dir, 'v1/state/partial'));
    return join(dir, 'v1/state/partial', name);
  }

  test('is kept for the next run, which goes on with it', async () => {
    const { server, source, opened } = await leave();
    const [kept] = await opened.store.partials.list();
    expect(kept?.bytes).toBeGreaterThan(9 * MIB);
    expect(await litter(opened.dir)).toEqual([]);
    expect((await drive(opened.store, source, spec)).sha256).toBe(sha256(ONE));
    expect(server.asked).toHaveLength(1);
    expect(server.asked[0]?.range?.from).toBeGreaterThan(9 * MIB);
    expect(await opened.store.partials.list()).toEqual([]);
  });

  test('is gone on with in parts', async () => {
    const { server, source, opened } = await leave();
    expect((await drive(opened.store, source, { ...spec, parts: PARTS })).sha256).toBe(sha256(ONE));
    expect(froms(server.asked)[0]).toBeGreaterThan(9 * MIB);
    expect(new Set(server.asked.map(({ ifRange }) => ifRange))).toEqual(new Set([server.etag]));
  });

  test('is kept over a restart', async () => {
    const { server, source, opened } = await leave();
    const again = await reopen(opened);
    expect((await drive(again.store, source, spec)).sha256).toBe(sha256(ONE));
    expect(server.asked[0]?.range?.from).toBeGreaterThan(9 * MIB);
  });

  test.each<[string, (dir: string) => Promise<void>]>([
    ['cut short', dir => truncate(join(dir, 'data'), 5 * MIB)],
    ['damaged', async dir => await flip(join(dir, 'data'))],
    ['without its info', async dir => await writeFile(join(dir, 'info.json'), '')],
    ['of another size', async dir => await edit(dir, 'total', SIZE + 1)],
    ['said to be longer', async dir => await edit(dir, 'bytes', SIZE)],
  ])('is fetched from nothing where it is %s on the disk', async (_, damage) => {
    const { server, source, opened } = await leave();
    await damage(await partial(opened.dir));
    expect((await drive(opened.store, source, spec)).sha256).toBe(sha256(ONE));
    expect(server.asked).toEqual([{ range: null, ifRange: null }]);
  });

  test('is fetched from nothing by force, and for another credential', async () => {
    for (const change of [{ scope: 'other' }, { force: true }]) {
      const { server, source, opened } = await leave();
      expect((await drive(opened.store, source, { ...spec, ...change })).sha256).toBe(sha256(ONE));
      expect(server.asked).toEqual([{ range: null, ifRange: null }]);
    }
  });

  test('is thrown away where the file is another one by now', async () => {
    const { server, source, opened } = await leave();
    server.content = OTHER;
    expect((await drive(opened.store, source, spec)).sha256).toBe(sha256(OTHER));
    expect(server.asked).toHaveLength(1);
  });

  test('is not kept without a strong ETag', async () => {
    const { server, source, opened } = await setUp();
    server.act = () => ({ cutAfter: 10 * MIB, etag: 'W/"1"' });
    await expect(drive(opened.store, source, spec)).rejects.toThrow('broke off');
    expect(server.asked.map(({ range }) => range)).toEqual([null, null, null]);
    expect(await opened.store.partials.list()).toEqual([]);
    expect(await litter(opened.dir)).toEqual([]);
  });

  test('is kept where the run is ended, as by a restart', async () => {
    const { server, source, opened } = await setUp();
    const ending = new AbortController();
    server.act = (_, n) => (n === 0 ? { cutAfter: 10 * MIB } : { cutAfter: MIB, stalls: true });
    const running = drive(opened.store, source, { ...spec, signal: ending.signal });
    await expect.poll(() => server.asked.length).toBeGreaterThan(1);
    ending.abort(new Error('the process ends'));
    await expect(running).rejects.toThrow();
    expect(await opened.store.partials.list()).toHaveLength(1);
  });

  test('goes away after 24 h', async () => {
    const { opened } = await leave();
    await opened.store.partials.sweep(Date.now() + 23 * 3_600_000);
    expect(await opened.store.partials.list()).toHaveLength(1);
    await opened.store.partials.sweep(Date.now() + 25 * 3_600_000);
    expect(await opened.store.partials.list()).toEqual([]);
  });

  async function flip(path: string): Promise<void> {
    const content = await readFile(path);
    content[MIB] = (content[MIB] ?? 0) ^ 1;
    await writeFile(path, content);
  }

  async function edit(dir: string, field: string, value: number): Promise<void> {
    const info: unknown = JSON.parse(await readFile(join(dir, 'info.json'), 'utf8'));
    await writeFile(join(dir, 'info.json'), JSON.stringify({ ...Object(info), [field]: value }));
  }
});
