import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { encodeName } from '../../src/store/disk/names.ts';

describe('a name is recognised in its file name', () => {
  test.each([
    ['churn', 'churn'],
    ['topic-classification', 'topic-classification'],
    ['Production', 'Production'],
    ['@champion', '@champion'],
    ['3', '3'],
    ['a b@c', 'a%20b%40c'],
    ['100 %', '100%20%25'],
    ['100%20%25', '100%2520%2525'],
    ['v1.2', 'v1.2'],
    ['.hidden', '%2Ehidden'],
    ['.', '%2E'],
    ['..', '%2E.'],
    ['@..', '@%2E.'],
    ['@@', '@%40'],
    ['runs:abc', 'runs%3Aabc'],
    ['model/../../x', 'model%2F..%2F..%2Fx'],
    ['模型', '%E6%A8%A1%E5%9E%8B'],
    ['a~b', 'a%7Eb'],
    ['a\0b\r\n', 'a%00b%0D%0A'],
  ])('%j is %s', (name, expected) => {
    expect(encodeName(name)).toBe(expected);
  });
});

test('a name of 200 bytes is kept whole, one of 201 is cut and marked', () => {
  expect(encodeName('n'.repeat(200))).toBe('n'.repeat(200));
  expect(encodeName('n'.repeat(201))).toMatch(/^n{100}~[0-9a-f]{64}$/);
});

test('names of 260 characters that differ in the last one only have different file names', () => {
  const long = 'n'.repeat(259);
  expect(encodeName(`${long}a`)).not.toBe(encodeName(`${long}b`));
});

const anyName = fc.oneof(
  fc.string({ unit: 'binary', minLength: 1, maxLength: 120 }),
  fc.string({
    unit: fc.constantFrom('.', '@', '%', '/', '~', '2', 'E', 'e', 'a', ' '),
    minLength: 1,
    maxLength: 6,
  }),
  fc.string({ unit: fc.constantFrom('模', '😀', 'n'), minLength: 190, maxLength: 260 }),
);

test('every name is a file name: at most 255 bytes with its ending, no directory, no separator', () => {
  fc.assert(
    fc.property(anyName, name => {
      const encoded = encodeName(name);
      expect(Buffer.byteLength(`${encoded}.json`)).toBeLessThanOrEqual(255);
      expect(encoded).toMatch(/^[\w@%~][\w@%~.-]*$/);
      expect(['.', '..', '']).not.toContain(encoded);
    }),
    { numRuns: 500 },
  );
});

test('different names have different file names', () => {
  fc.assert(
    fc.property(fc.uniqueArray(anyName, { minLength: 2, maxLength: 20 }), names => {
      const encoded = new Set(names.map(name => encodeName(name)));
      expect(encoded.size).toBe(names.length);
    }),
    { numRuns: 500 },
  );
});

test('names that are the same to a file system that ignores case are only those that differ in case', () => {
  fc.assert(
    fc.property(anyName, anyName, (a, b) => {
      fc.pre(a.toLowerCase() !== b.toLowerCase() && a.length < 60 && b.length < 60);
      fc.pre(/^[ -~]*$/.test(a + b));
      expect(encodeName(a).toLowerCase()).not.toBe(encodeName(b).toLowerCase());
    }),
  );
});

test('where case is not told, names that differ only in it have file names that differ without it', () => {
  expect(encodeName('Churn', false)).toBe('%43hurn');
  expect(encodeName('@Jump', false)).toBe('@%4Aump');
  fc.assert(
    fc.property(anyName, anyName, (a, b) => {
      fc.pre(a.toWellFormed() !== b.toWellFormed());
      expect(encodeName(a, false).toLowerCase()).not.toBe(encodeName(b, false).toLowerCase());
    }),
    {
      numRuns: 500,
      examples: [
        ['churn', 'Churn'],
        ['%4a', 'J'],
        ['@A', '@a'],
        ['N'.repeat(300), 'n'.repeat(300)],
      ],
    },
  );
});
