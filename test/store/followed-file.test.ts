import { randomBytes } from 'node:crypto';
import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import { expect, onTestFinished, test, vi } from 'vitest';
import { Layout } from '../../src/store/disk/layout.ts';
import { BegunAnew } from '../../src/store/intake/followed-file.ts';
import type { PartialFile } from '../../src/store/intake/partial-file.ts';
import { Partials } from '../../src/store/intake/partials.ts';
import { PieceReader } from '../../src/store/intake/piece-reader.ts';
import { bodyOf, temporaryDirectory } from './support.ts';

const SIZE = 1024 * 1024;
const PIECE = 64 * 1024;
const STAYS = new AbortController().signal;

async function take(total = SIZE) {
  const layout = new Layout(await temporaryDirectory());
  const tmp = join(layout.tmp, 'own');
  await mkdir(tmp, { recursive: true });
  await mkdir(layout.partials, { recursive: true });
  const partials = new Partials(layout, tmp);
  return { tmp, partial: await partials.take({ identity: 'a large file', total }, false) };
}

/** What a reader got, and how it ended. */
async function follow({ followed }: PartialFile) {
  const pieces: Buffer[] = [];
  const error: unknown = await (async () => {
    for await (const piece of followed.read(0, null, STAYS)) pieces.push(Buffer.from(piece));
    return null;
  })().catch(caught => caught);
  return { bytes: Buffer.concat(pieces), error };
}

async function write(partial: PartialFile, content: Buffer, to: number): Promise<void> {
  for (let at = 0; at < to; at += PIECE) {
    await partial.file.write(bodyOf(content.subarray(at, at + PIECE)), {
      at,
      end: Math.min(SIZE, at + PIECE),
    });
    if (at % (4 * PIECE) === 0) await turn();
  }
}

test('parts that come in any order are given in the order of their bytes', async () => {
  const { tmp, partial } = await take();
  const content = randomBytes(SIZE);
  const reading = follow(partial);
  const half = SIZE / 2;
  await partial.file.write(bodyOf(content.subarray(half)), { at: half, end: SIZE });
  await partial.file.write(bodyOf(content.subarray(0, half)), { at: 0, end: half });
  await partial.finish(join(tmp, 'whole'));
  const { bytes, error } = await reading;
  expect(error).toBeNull();
  expect(bytes.equals(content)).toBe(true);
});

test('the last byte is given once the file is whole, and not before', async () => {
  const { tmp, partial } = await take();
  const content = randomBytes(SIZE);
  const pieces = partial.followed.read(0, null, STAYS)[Symbol.asyncIterator]();
  await write(partial, content, SIZE);
  let got = 0;
  while (got < SIZE - 1) got += (await pieces.next()).value?.byteLength ?? SIZE;
  expect(got).toBe(SIZE - 1);
  const last = pieces.next();
  expect(await Promise.race([last, sleep(20, 'waits')])).toBe('waits');
  await partial.finish(join(tmp, 'whole'));
  expect((await last).value).toEqual(content.subarray(-1));
  expect((await pieces.next()).done).toBe(true);
});

test('whoever has bytes of a file that is left gets no more; so does whoever comes then', async () => {
  const { partial } = await take();
  const reading = follow(partial);
  await write(partial, randomBytes(SIZE), SIZE / 2);
  await partial.leave();
  expect((await reading).error).toBeInstanceOf(BegunAnew);
  expect(await follow(partial)).toEqual({ bytes: Buffer.alloc(0), error: expect.any(BegunAnew) });
});

test('what was asked of the disk before the file was begun anew is given to nobody', async () => {
  const { tmp, partial } = await take();
  const [before, after] = [randomBytes(SIZE), randomBytes(SIZE)];
  await write(partial, before, SIZE / 2);
  const pieces = partial.followed.read(0, null, STAYS);
  await pieces.next();
  const { promise: anew, resolve: begin } = Promise.withResolvers<void>();
  await holdNextRead(tmp, anew);
  const pending = pieces.next();
  await partial.restart(null);
  await write(partial, after, SIZE);
  begin();
  await expect(pending).rejects.toBeInstanceOf(BegunAnew);
  await partial.finish(join(tmp, 'whole'));
});

/** The disk takes its time for what a reader asks it next. */
async function holdNextRead(tmp: string, until: Promise<void>): Promise<void> {
  const [dir = ''] = await readdir(tmp);
  const reader = await PieceReader.open(join(tmp, dir, 'data'), SIZE, STAYS);
  const read = vi.spyOn(PieceReader.prototype, 'read');
  read.mockImplementationOnce(async (from, to) => {
    await until;
    return await reader.read(from, to);
  });
  onTestFinished(() => {
    read.mockRestore();
    reader.close();
  });
}

test('however often it is begun anew, each reader has bytes of one content only', async () => {
  const contents = Array.from({ length: 30 }, () => randomBytes(SIZE));
  const { tmp, partial } = await take();
  const reading: ReturnType<typeof follow>[] = [];
  for (const [n, content] of contents.entries()) {
    await partial.restart(`"${n}"`);
    reading.push(follow(partial), follow(partial));
    // From none to all but the last piece, and all of the last one.
    await write(partial, content, n === contents.length - 1 ? SIZE : (n * PIECE) % SIZE);
  }
  await partial.finish(join(tmp, 'whole'));
  let torn = 0;
  let whole = 0;
  for (const { bytes, error } of await Promise.all(reading)) {
    expect(contents.some(content => content.subarray(0, bytes.byteLength).equals(bytes))).toBe(true);
    if (error !== null) {
      torn++;
      expect(error).toBeInstanceOf(BegunAnew);
      expect(bytes.byteLength).toBeLessThan(SIZE);
    } else {
      whole++;
      expect(bytes.equals(contents.at(-1) ?? Buffer.alloc(0))).toBe(true);
    }
  }
  expect(torn).toBeGreaterThan(5);
  expect(whole).toBeGreaterThanOrEqual(2);
});
