import { createHash } from 'node:crypto';
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { type ManifestFile, manifestOf } from '../../src/domain/manifest.ts';

function sha256(content: string): string {
  return createHash('sha256').update(content).digest('hex');
}

function file(path: string, content: string): ManifestFile {
  return { path, size: Buffer.byteLength(content), sha256: sha256(content) };
}

const MLMODEL = file('MLmodel', 'flavors: {}\n');
const DATA = file('data/model.pkl', 'bytes');

test('the digest is the sha256 over the sorted lines path NUL size NUL sha256 LF', () => {
  const lines = [
    `MLmodel\u000012\u0000${sha256('flavors: {}\n')}\n`,
    `data/model.pkl\u00005\u0000${sha256('bytes')}\n`,
  ].join('');
  const manifest = manifestOf([DATA, MLMODEL]);
  expect(manifest.digest).toBe(`sha256:${sha256(lines)}`);
  expect(manifest.files).toEqual([MLMODEL, DATA]);
  expect(manifest.bytes).toBe(17);
});

test('the digest of a known model never changes between releases', () => {
  // printf 'MLmodel\0005\0002cf2…\n' | sha256sum, with the sha256 of "hello".
  const manifest = manifestOf([file('MLmodel', 'hello')]);
  expect(manifest.files[0]?.sha256).toBe('2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824');
  expect(manifest.digest).toBe('sha256:df6bb0ddbcc36f103a7260cc7e438a1bcf3cd3b7e2d0251cb3252434faf1e6a4');
});

test('no files at all have the digest of nothing', () => {
  expect(manifestOf([])).toEqual({ files: [], digest: `sha256:${sha256('')}`, bytes: 0 });
});

const path = fc.stringMatching(/^[ -~é模]{1,30}$/);
const files = fc.uniqueArray(fc.record({ path, size: fc.nat(), sha256: fc.string().map(sha256) }), {
  selector: one => one.path,
  maxLength: 20,
});

test('the order in which the files come does not matter', () => {
  fc.assert(
    fc.property(files, fc.array(fc.nat()), (some, keys) => {
      const shuffled = some
        .map((one, at) => ({ one, key: keys[at % Math.max(1, keys.length)] ?? at }))
        .toSorted((a, b) => a.key - b.key)
        .map(({ one }) => one);
      expect(manifestOf(shuffled)).toEqual(manifestOf(some));
    }),
  );
});

test('another path, size or content is another digest', () => {
  const { digest } = manifestOf([MLMODEL, DATA]);
  for (const change of [{ path: 'data/model.pk' }, { size: 6 }, { sha256: sha256('other') }]) {
    expect(manifestOf([MLMODEL, { ...DATA, ...change }]).digest).not.toBe(digest);
  }
  expect(manifestOf([MLMODEL]).digest).not.toBe(digest);
});

test('many files in any order are sorted by their paths', () => {
  const many = Array.from({ length: 5_000 }, (_, n) => ({ ...DATA, path: `d/${(n * 7_919) % 5_000}` }));
  const sorted = manifestOf(many).files;
  expect(sorted.map(one => one.path)).toEqual(many.map(one => one.path).toSorted());
});
