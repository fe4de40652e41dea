import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';
import { ERROR_CODES } from '../../src/domain/errors.ts';
import { StatusSchema } from '../../src/http/schemas.ts';
import { ROOT } from './markdown.ts';
import { expressionFaults } from './promql.ts';
import { METRICS, TABLES } from './tables.ts';

/** Where each table stands. */
const IN: Readonly<Record<string, string>> = {
  options: 'configuration.md',
  metrics: 'metrics.md',
  routes: 'api.md',
  fields: 'api.md',
  outcome: 'api.md',
  codes: 'api.md',
};

const read = (file: string) => readFile(join(ROOT, 'docs', file), 'utf8');

async function between(mark: string, file: string): Promise<string | undefined> {
  const pattern = new RegExp(`<!-- ${mark} -->\\n(?<table>[\\s\\S]*?)\\n<!-- /${mark} -->`);
  return pattern.exec(await read(file))?.groups?.['table'];
}

describe('a table is the one that the code gives', () => {
  test.each(Object.entries(TABLES))('%s', async (name, expected) => {
    const file = IN[name] ?? '';
    const advice = `Between <!-- ${name} --> and <!-- /${name} --> docs/${file} must hold:\n\n${expected}\n`;
    expect(await between(name, file), advice).toBe(expected);
  });
});

test('every code is explained, each once, and none besides', async () => {
  const rows = (await between('to do', 'operating.md'))?.split('\n').slice(2) ?? [];
  const cells = rows.map(row => row.split(/(?<!\\) \| /).map(cell => cell.replace(/^\| | \|$/g, '').trim()));
  expect(cells.map(([code = '']) => code).toSorted()).toEqual(
    ERROR_CODES.map(code => `\`${code}\``).toSorted(),
  );
  for (const [code, meaning = '', advice = '', ...others] of cells) {
    expect(others, code).toEqual([]);
    expect([meaning.length > 10, advice.length > 5], code).toEqual([true, true]);
  }
});

test('the fields of a pre-warmed model are those that an answer has', async () => {
  const table = (await between('prewarm', 'api.md')) ?? '';
  const { element } = StatusSchema.shape.prewarm;
  expect([...table.matchAll(/^\| `(\w+)` \|/gm)].map(([, field]) => field)).toEqual(
    Object.keys(element.shape),
  );
  const [row] = /^\| `last_run` \|.*$/m.exec(table) ?? [];
  const fields = Object.keys(element.shape.last_run.unwrap().shape);
  expect(fields.filter(field => row?.includes(`\`${field}\``) !== true)).toEqual([]);
});

test('the meanings of metrics fit into a cell of the table', () => {
  expect(METRICS.filter(({ help }) => /[|\n\\]/.test(help))).toEqual([]);
});

test('the alerts that the chart brings are on metrics, labels and values that there are', async () => {
  const AlertsSchema = z.array(z.looseObject({ alert: z.string(), expr: z.string() }));
  const file = await readFile(join(ROOT, 'helm/mlflow-sidecar/alerts.yaml'), 'utf8');
  const alerts = AlertsSchema.parse(parse(file));
  expect(alerts.length).toBeGreaterThan(3);
  expect(
    alerts.flatMap(({ alert, expr }) => expressionFaults(expr).map(fault => `${alert}: ${fault}`)),
  ).toEqual([]);
});
