import { mkdir, readFile, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { manifestOf } from '../../src/domain/manifest.ts';
import { atOnce } from '../../src/policy/slices.ts';
import { readManifest, textOf } from '../../src/store/records/manifest-file.ts';
import { temporaryDirectory } from './support.ts';

const SHA = 'ab'.repeat(32);
const SNAPSHOT = '0'.repeat(32);
const FETCHED = {
  snapshot: SNAPSHOT,
  manifest: manifestOf(
    Array.from({ length: 3_000 }, (_, n) => ({ path: `ünï code/${n} "quoted"  x`, size: n, sha256: SHA })),
  ),
};

async function written(text: string): Promise<string> {
  const path = join(await temporaryDirectory(), 'manifest');
  await writeFile(path, text);
  return path;
}

test('what was written is read', async () => {
  const text = atOnce(textOf(FETCHED));
  expect(await readManifest(await written(text))).toEqual(FETCHED);
  const none = { snapshot: SNAPSHOT, manifest: manifestOf([]) };
  expect(await readManifest(await written(atOnce(textOf(none))))).toEqual(none);
});

test('it takes little more than its paths and digests', () => {
  const paths = FETCHED.manifest.files.reduce((sum, { path }) => sum + Buffer.byteLength(path), 0);
  expect(Buffer.byteLength(atOnce(textOf(FETCHED))) - paths).toBeLessThan(3_000 * (64 + 7) + 300);
});

test('a record of a build before is read', async () => {
  const { files, digest, bytes } = FETCHED.manifest;
  const old = JSON.stringify({ format: 1, snapshot: SNAPSHOT, digest, bytes, files });
  expect(await readManifest(await written(old))).toEqual(FETCHED);
});

test('one that is cut anywhere, of another format or no record at all is worth nothing', async () => {
  const text = atOnce(textOf(FETCHED));
  for (const end of [0, 1, 50, 200, 5_000, text.length - 4_000]) {
    const path = await written(text);
    await truncate(path, end);
    expect(await readManifest(path), String(end)).toBeNull();
  }
  const others = [
    '{}',
    'x\n',
    text.replace('"format":2', '"format":3'),
    `${text}x\n`,
    text.replace(SHA, 'x'),
  ];
  for (const other of others) expect(await readManifest(await written(other))).toBeNull();
  const dir = await temporaryDirectory();
  await symlink('/dev/zero', join(dir, 'link'));
  await mkdir(join(dir, 'directory'));
  for (const name of ['none', 'link', 'directory']) expect(await readManifest(join(dir, name))).toBeNull();
  expect((await readFile(await written(text), 'utf8')).endsWith('\n')).toBe(true);
});
