import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { z } from 'zod';
import { ROOT } from './markdown.ts';

const read = (path: string) => readFile(join(ROOT, path), 'utf8');

/** What `ensurePython` installs of a package, newest first. */
async function pinned(name: string): Promise<string> {
  const text = await read('scripts/lib/python.mjs');
  const versions = [...text.matchAll(/'([\w-]+)==([\d.]+)'/g)].filter(([, pkg]) => pkg === name);
  return [...new Set(versions.map(([, , version = '']) => version))].join(', ');
}

async function found(path: string, pattern: RegExp): Promise<string> {
  return pattern.exec(await read(path))?.[1] ?? `nothing in ${path}`;
}

const PackageSchema = z.object({ engines: z.object({ node: z.string().regex(/^>=\d+$/) }) });
const node = PackageSchema.parse(JSON.parse(await read('package.json'))).engines.node.slice(2);
/** The official chart's versions are those that the values' own document says, which has a test of its own. */
const charts = async () =>
  [...(await found('helm/airflow/README.md', /Rendered with charts ([^(]*)/)).matchAll(/\d+\.\d+\.\d+/g)]
    .map(([version]) => version)
    .join(', ');

const EXPECTED: Readonly<Record<string, () => Promise<string>>> = {
  MLflow: () => pinned('mlflow'),
  Airflow: () => pinned('apache-airflow'),
  'apache-airflow-providers-http': () => pinned('apache-airflow-providers-http'),
  Python: async () => `3.${await found('scripts/lib/python.mjs', /OLDEST = (\d+)/)} or newer`,
  'Python of the helper': async () =>
    `${await found('clients/python/pyproject.toml', /requires-python = ">=([\d.]+)"/)} or newer`,
  Node: async () => `${node} or newer`,
  Helm: () => found('scripts/lib/helm.mjs', /Helm (\d+\.\d+\.\d+)/),
  'kubernetes-validate': () => pinned('kubernetes-validate'),
  'the official Airflow chart': charts,
};

test('the table of tested versions has those that the tests use', async () => {
  const [, table = ''] =
    /<!-- versions -->\n([\s\S]*?)\n<!-- \/versions -->/.exec(await read('docs/versions.md')) ?? [];
  const rows = table.split('\n').slice(2);
  const shown = rows
    .map(row => row.split('|').map(cell => cell.trim()))
    .map(([, what = '', versions]) => [what, versions]);
  const expected = Object.entries(EXPECTED).map(async ([what, versions]) => [what, await versions()]);
  expect(shown).toEqual(await Promise.all(expected));
});
