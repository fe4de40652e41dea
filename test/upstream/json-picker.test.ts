import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { SharedSlices } from '../../src/policy/slices.ts';
import { JsonPicker, Malformed, TooMuch, type Wanted } from '../../src/upstream/json-picker.ts';

/** In pieces of so many bytes. */
async function pick(text: string | Uint8Array, wanted: Wanted = 'all', pieceBytes = 64 * 1024) {
  const picker = new JsonPicker(wanted, new SharedSlices());
  const bytes = Buffer.from(text);
  for (let from = 0; from < bytes.byteLength; from += pieceBytes)
    await picker.write(bytes.subarray(from, from + pieceBytes));
  return picker.end();
}

const PATHS: Wanted = { members: { files: { elements: { members: { path: 'all' } }, most: 3 } } };

test('all of any text is what JSON.parse gives, wherever the pieces end', async () => {
  const texts = fc.json({ stringUnit: 'binary', maxDepth: 3 });
  await fc.assert(
    fc.asyncProperty(texts, fc.integer({ min: 1, max: 20 }), async (text, pieceBytes) => {
      // A surrogate alone is no UTF-8; JSON writes it as an escape.
      const wrapped = `{"x":${text}}`.replace(/\p{Surrogate}/gu, '?');
      expect(await pick(wrapped, 'all', pieceBytes)).toEqual(JSON.parse(wrapped));
    }),
    { numRuns: 40 },
  );
});

describe('of an object', () => {
  test('what is wanted has its value, and of the rest only the names stay', async () => {
    const text =
      '{"files":[{"path":"a","is_dir":true,"more":[1,{"path":"b"}]}],"other":{"files":[1]},"text":"x"}';
    expect(await pick(text, PATHS)).toEqual({
      files: [{ path: 'a', is_dir: undefined, more: undefined }],
      other: undefined,
      text: undefined,
    });
    expect(Object.keys(Object(await pick('{"message":"rate limited"}', PATHS)))).toEqual(['message']);
  });

  test('what is something else than expected shows as that', async () => {
    expect(await pick('{"files":"none"}', PATHS)).toEqual({ files: 'none' });
    expect(await pick('{"files":null}', PATHS)).toEqual({ files: null });
    expect(await pick('{"files":{"path":"a"}}', PATHS)).toEqual({ files: { path: undefined } });
    expect(await pick('{"files":[["path"],7]}', PATHS)).toEqual({ files: [[undefined], 7] });
    expect(await pick('[]', PATHS)).toEqual([]);
  });

  test('of a name that comes twice the last counts, as for JSON.parse', async () => {
    expect(await pick('{"files":[{"path":"a"}],"files":[{"path":"b"}]}', PATHS)).toEqual({
      files: [{ path: 'b' }],
    });
    expect(Object.getPrototypeOf(await pick('{"__proto__":{"a":1}}'))).toBe(Object.prototype);
  });
});

test.each([
  '',
  '{',
  '{"a":1',
  '{"a":1}}',
  '{"a":1}{',
  '{"a" 1}',
  '{"a":1,}',
  '[1,]',
  '[1 2]',
  '{"a":1]',
  '[1}',
  '{1:2}',
  '{"a":tru}',
  '{"a":01}',
  '{"a":NaN}',
  '{"a":"\n"}',
  '<html>',
  Buffer.from([0x22, 0xff, 0x22]),
  Buffer.from([0x22, 0xe2, 0x82, 0x22]),
])('%j is no JSON', async text => {
  for (const pieceBytes of [1, 64]) await expect(pick(text, PATHS, pieceBytes)).rejects.toThrow(Malformed);
});

describe('more than is read is refused', () => {
  test.each<[string, string, string]>([
    ['entries', '{"files":[{},{},{},{}]}', '3 entries'],
    ['levels', '['.repeat(65), '64 levels'],
    ['levels of what is not wanted', `{"x":${'{"a":'.repeat(64)}`, '64 levels'],
    ['values', `{"x":[${'0,'.repeat(2_000_000)}`, '2000000 values'],
    ['a text', `{"x":"${'a'.repeat(1_100_000)}`, '1048576 bytes'],
    ['a text of escapes', `{"x":"${String.raw`\u0041`.repeat(200_000)}`, '1048576 bytes'],
    ['a number', `{"x":${'1'.repeat(1_100_000)}`, '1048576 bytes'],
  ])('%s', async (_, text, words) => {
    const refused = pick(text, PATHS);
    await expect(refused).rejects.toThrow(TooMuch);
    await expect(refused).rejects.toThrow(words);
  });

  test('of what is picked', async () => {
    const long = 'x'.repeat(1_000_000);
    await expect(pick(JSON.stringify({ a: Array(17).fill(long) }))).rejects.toThrow('characters');
    await expect(pick(JSON.stringify({ a: Array(17).fill(long) }), PATHS)).resolves.toEqual({});
  });
});

/** How often others had a turn while the texts were read at once. */
async function turnsDuring(texts: readonly string[]): Promise<{ turns: number; longestMs: number }> {
  let turns = 0;
  let longestMs = 0;
  let last = performance.now();
  let isOver = false;
  const tick = () => {
    turns += 1;
    longestMs = Math.max(longestMs, performance.now() - last);
    last = performance.now();
    if (!isOver) setImmediate(tick);
  };
  setImmediate(tick);
  const slices = new SharedSlices();
  await Promise.all(
    texts.map(async text => {
      const picker = new JsonPicker(PATHS, slices);
      await picker.write(Buffer.from(text));
      picker.end();
    }),
  );
  isOver = true;
  return { turns, longestMs };
}

test('16 texts of tiny objects at once leave everybody else a turn after each step', async () => {
  const tiny = `{"x":[${'{},'.repeat(330_000)}{}]}`;
  const { turns } = await turnsDuring(Array(16).fill(tiny));
  // 1 MB in steps of 16 KiB, of which no two are in one turn while somebody waits.
  expect(turns).toBeGreaterThan((16 * tiny.length) / (16 * 1024) - 1);
});
