import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';
import * as kinds from '../../src/config/kinds.ts';
import { OPTION_SPECS } from '../../src/config/table.ts';
import { CHARTS, DIR } from '../support/airflow-values.ts';

const text = await readFile(join(DIR, 'README.md'), 'utf8');
const fences = [...text.matchAll(/^```(\w+)\n(.*?)^```$/gms)].map(([, language, body = '']) => ({
  language,
  body,
}));

test('every link leads to a file of the repository, and every file of the folder has one', async () => {
  const links = [...text.matchAll(/\]\((?!https:)([^)#]+)/g)].map(([, path = '']) => path);
  expect(links.filter(path => !existsSync(resolve(DIR, path)))).toEqual([]);
  const files = (await readdir(DIR, { recursive: true })).filter(file => file.endsWith('.yaml'));
  expect(links).toEqual(expect.arrayContaining(files));
});

test('every file that a command names is there', () => {
  const commands = fences.filter(({ language }) => language === 'sh').map(({ body }) => body);
  const named = [...commands.join('').matchAll(/--(?:values|filename) (\S+)/g)].map(([, file = '']) => file);
  expect(named.length).toBeGreaterThan(3);
  expect(named.filter(file => file !== 'yours.yaml' && !existsSync(join(DIR, file)))).toEqual([]);
});

test('what may be added is right: variables are options, and the quota is below the volume’s size', () => {
  const EntrySchema = z.object({ name: z.string(), value: z.string().optional() }).loose();
  const entries = fences
    .filter(({ language }) => language === 'yaml')
    .flatMap(({ body }) => z.array(EntrySchema).parse(parse(body)));
  const options = OPTION_SPECS.map(({ name }) => name);
  const [volume, ...others] = entries.filter(({ name }) => !options.includes(name));
  expect(others).toEqual([]);
  const { emptyDir } = z.object({ emptyDir: z.object({ sizeLimit: z.string() }) }).parse(volume);
  const quota = entries.find(({ name }) => name === 'SIDECAR_CACHE_MAX_BYTES')?.value ?? '';
  expect(quota).toMatch(/^\d+$/);
  expect(bytesOf(quota)).toBeLessThan(0.85 * bytesOf(emptyDir.sizeLimit));
});

function bytesOf(size: string): number {
  return z.object({ value: z.number() }).parse(kinds.bytes(1).parse(size)).value;
}

test('it names the charts whose keys are known', () => {
  for (const chart of new Set(Object.values(CHARTS).flat())) expect(text).toContain(chart);
});
