import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { describeOptions } from '../../src/config/describe.ts';

const README = new URL('../../README.md', import.meta.url);
const TABLE = /<!-- options -->\n(?<table>[\s\S]*?)\n<!-- \/options -->/;

test('the README’s table of options is the one that the code gives', async () => {
  const found = TABLE.exec(await readFile(README, 'utf8'))?.groups?.['table']?.trim();
  expect(
    found,
    `Between <!-- options --> and <!-- /options --> README.md must hold:\n\n${describeOptions()}\n`,
  ).toBe(describeOptions());
});
