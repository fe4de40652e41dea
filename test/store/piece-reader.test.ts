import { truncate, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { readPart } from '../../src/store/intake/piece-reader.ts';
import { hangThreads, temporaryDirectory } from './support.ts';

const STAYS = new AbortController().signal;

async function all(pieces: AsyncIterable<Uint8Array>): Promise<string> {
  let text = '';
  for await (const piece of pieces) text += Buffer.from(piece).toString();
  return text;
}

test('a part is read at the first path where there is something, and stays with its reader', async () => {
  const dir = await temporaryDirectory();
  const path = join(dir, 'file');
  await writeFile(path, 'a'.repeat(300_000));
  const pieces = readPart([join(dir, 'none'), path], 10, 290_000, STAYS);
  const first = (await pieces.next()).value?.byteLength ?? 0;
  expect(first).toBe(256 * 1024);
  await unlink(path);
  expect(await all(pieces)).toHaveLength(290_000 - 10 - first);
});

test('a file that is nowhere, or shorter than it was, is an error', async () => {
  const dir = await temporaryDirectory();
  const path = join(dir, 'file');
  await expect(all(readPart([join(dir, 'none'), path], 0, 1, STAYS))).rejects.toMatchObject({
    code: 'ENOENT',
  });
  await writeFile(path, 'abc');
  await truncate(path, 2);
  await expect(all(readPart([path], 0, 3, STAYS))).rejects.toThrow('cut short');
});

test('a disk that does not answer holds up nobody whose time is over', async () => {
  const path = join(await temporaryDirectory(), 'file');
  await writeFile(path, 'x');
  await hangThreads();
  const late = new Error('too late');
  const leaving = new AbortController();
  const reading = all(readPart([path], 0, 1, leaving.signal));
  setTimeout(() => leaving.abort(late), 20);
  await expect(reading).rejects.toBe(late);
});
