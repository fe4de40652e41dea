import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { matchesGlob } from '../../src/domain/glob.ts';
import { processorMs } from '../support/limits.ts';

test.each([
  ['models:/a/*', 'models:/a/Production', true],
  ['models:/a/*', 'models:/ab/Production', false],
  ['models:/*', 'models:/a/Production', true],
  ['*', '', true],
  ['*.example.com', 'a.b.example.com', true],
  ['*.example.com', 'example.com', false],
  ['a*b*c', 'a-b-b-c', true],
  ['a*b*c', 'a-c-b', false],
  ['ab*ba', 'aba', false],
  ['a**b', 'ab', true],
  ['', '', true],
  ['', 'a', false],
  ['a.c', 'abc', false],
  ['[a-z]+', 'a', false],
  ['(', '(', true],
  ['A', 'a', false],
])('the pattern %j on %j gives %j', (pattern, text, expected) => {
  expect(matchesGlob(pattern, text)).toBe(expected);
});

test('a text always fits the pattern that was made from it by stars', () => {
  fc.assert(
    fc.property(fc.array(fc.string(), { minLength: 1 }), fc.array(fc.string()), (parts, fillers) => {
      const text = parts
        .map((part, index) => (index === 0 ? part : `${fillers[index] ?? ''}${part}`))
        .join('');
      expect(
        matchesGlob(parts.map(part => part.replaceAll('*', '')).join('*'), text.replaceAll('*', '')),
      ).toBe(true);
    }),
  );
});

test('any pattern agrees with the regular expression that it stands for', () => {
  const letters = fc.string({ unit: fc.constantFrom('a', 'b', '*', '.'), maxLength: 8 });
  fc.assert(
    fc.property(
      letters,
      fc.string({ unit: fc.constantFrom('a', 'b', '.'), maxLength: 8 }),
      (pattern, text) => {
        const expression = pattern.replaceAll('.', '\\.').replaceAll('*', '.*');
        expect(matchesGlob(pattern, text)).toBe(new RegExp(`^${expression}$`).test(text));
      },
    ),
    { numRuns: 2000 },
  );
});

test('a pattern that makes backtracking explode is answered at once', async () => {
  const pattern = `${'a*'.repeat(5_000)}b`;
  const ms = await processorMs(() => expect(matchesGlob(pattern, 'a'.repeat(20_000))).toBe(false));
  expect(ms).toBeLessThan(500);
});
