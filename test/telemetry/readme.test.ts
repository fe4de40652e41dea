import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { EventBus } from '../../src/domain/events.ts';
import { createMetrics } from '../../src/telemetry/metrics.ts';

const README = new URL('../../README.md', import.meta.url);
const TABLE = /<!-- metrics -->\n(?<table>[\s\S]*?)\n<!-- \/metrics -->/;

const metrics = createMetrics(new EventBus(), {
  models: () => [],
  cache: () => ({ usable: true, models: 0, bytes: 0, used_bytes: null, free_bytes: null }),
  work: () => ({ calls: 0, runs: 0, questions: 0, joined: 0 }),
  jobsRunning: () => 0,
  breakers: () => [],
  prewarm: () => [],
  configured: [],
  maxStaleS: 1,
  cacheMaxBytes: 1,
  version: '1',
});
metrics.close();

function tableOfMetrics(): string {
  const rows = metrics.descriptions.map(({ name, type, labels, help }) => {
    const shown = labels.map(label => `\`${label}\``).join(', ');
    return `| \`${name}\` | ${type} | ${shown} | ${help} |`;
  });
  return ['| metric | type | labels | meaning |', '|---|---|---|---|', ...rows].join('\n');
}

test('the README’s table of metrics is the one that the code gives', async () => {
  const found = TABLE.exec(await readFile(README, 'utf8'))?.groups?.['table'];
  const expected = tableOfMetrics();
  const advice = `Between <!-- metrics --> and <!-- /metrics --> README.md must hold:\n\n${expected}\n`;
  expect(found, advice).toBe(expected);
});

test('every metric that the README speaks of exists', async () => {
  const existing = new Set(
    metrics.descriptions.flatMap(({ name, type }) =>
      type === 'histogram' ? ['bucket', 'sum', 'count'].map(part => `${name}_${part}`).concat(name) : [name],
    ),
  );
  const named = (await readFile(README, 'utf8')).match(/\bmlflow_sidecar_\w+/g) ?? [];
  expect(named.length).toBeGreaterThan(existing.size / 2);
  expect(named.filter(name => !existing.has(name))).toEqual([]);
});

test('the meanings fit into a cell of the table', () => {
  expect(metrics.descriptions.filter(({ help }) => /[|\n\\]/.test(help))).toEqual([]);
});
