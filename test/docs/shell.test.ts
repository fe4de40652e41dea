import { expect, test } from 'vitest';
import { commandsOf } from './shell.ts';

const wordsOf = (script: string) => commandsOf(script).map(({ words }) => words);

test('commands are told apart, and comments left out', () => {
  expect(wordsOf('a b # c\nd && e || f; g | h > i\n# j\nk#l')).toEqual([
    ['a', 'b'],
    ['d'],
    ['e'],
    ['f'],
    ['g'],
    ['h'],
    ['k#l'],
  ]);
});

test('quotes and continued lines are as a shell has them', () => {
  expect(wordsOf(`a 'b c' "d \\"e\\"" \\\n  f=1 g\\ h`)).toEqual([['a', 'b c', 'd "e"', 'f=1', 'g h']]);
});

test('variables before a program are its own, and without one the shell’s', () => {
  const [first, second, third] = commandsOf('A=1 B="2 3" c d\nexport E=4 F=5\nG=6');
  expect(first).toMatchObject({
    line: 0,
    env: [
      ['A', '1'],
      ['B', '2 3'],
    ],
    words: ['c', 'd'],
  });
  expect(second).toMatchObject({
    line: 1,
    env: [
      ['E', '4'],
      ['F', '5'],
    ],
    words: [],
  });
  expect(third).toMatchObject({ line: 2, env: [['G', '6']], words: [] });
});

test('what stands in for its output is a command, too', () => {
  expect(wordsOf('export A=$(b -c 1)\necho "x=$(d)" > .env')).toEqual([
    ['b', '-c', '1'],
    [],
    ['d'],
    ['echo', 'x=$(d)'],
  ]);
});

test('what is not understood is refused', () => {
  expect(() => commandsOf('a < b')).toThrow('not understood');
  expect(() => commandsOf('for x in y; do (z); done')).toThrow('not understood');
  expect(() => commandsOf('a & b')).toThrow('not understood');
  expect(() => commandsOf("a 'b")).toThrow('not understood');
  expect(() => commandsOf('export A')).toThrow('without a value');
});
