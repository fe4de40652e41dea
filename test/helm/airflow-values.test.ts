import { readdir } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { readKeys, unknownKeys } from '../support/airflow-keys.ts';
import { CHARTS, DIR, LAYOUTS, merged, readValues, SETS } from '../support/airflow-values.ts';

const MANIFESTS = ['inference.yaml', 'model-cache-claim.yaml'];
const CASES = SETS.flatMap(set => CHARTS[set.layout].map(chart => ({ ...set, chart })));

test('every values file is in a set', async () => {
  const found = (await readdir(DIR, { recursive: true })).filter(file => file.endsWith('.yaml'));
  expect(found.sort()).toEqual([...new Set(SETS.flatMap(({ files }) => files)), ...MANIFESTS].sort());
});

test.each(CASES)('$title has only keys that chart $chart has', async ({ files, chart }) => {
  expect(unknownKeys(await readValues({ files }), await readKeys(chart))).toEqual([]);
});

test.each([
  ['before-1.21', { workers: { extraInitContainer: [] } }, 'workers.extraInitContainer'],
  ['from-1.21', { workers: { celery: { extraInitContainer: [] } } }, 'workers.celery.extraInitContainer'],
  ['from-1.21', { workers: { kubernetes: { extraVolume: [] } } }, 'workers.kubernetes.extraVolume'],
  ['from-1.21', { scheduler: { securityContexts: { pods: {} } } }, 'scheduler.securityContexts.pods'],
  ['from-1.21', { envs: [] }, 'envs'],
] as const)('of layout %s a misspelt key is refused: %o', async (layout, values, path) => {
  for (const chart of CHARTS[layout]) expect(unknownKeys(values, await readKeys(chart))).toEqual([path]);
});

describe('the layouts', () => {
  const [older, newer] = LAYOUTS;

  test.each([
    'celery-executor.yaml',
    'celery-shared-claim.yaml',
    'kubernetes-fetch.yaml',
    'kubernetes-shared-claim.yaml',
  ])('of %s say the same', async file => {
    const before = await readValues({ files: [`${older}/${file}`] });
    const section = file.startsWith('celery') ? 'celery' : 'kubernetes';
    const moved = { ...before, workers: { [section]: before['workers'] } };
    expect(await readValues({ files: [`${newer}/${file}`] })).toEqual(moved);
  });

  test.each(['1.18.0', '1.20.0'])('differ: chart %s does not have the newer keys', async chart => {
    const values = await readValues({ files: [`${newer}/celery-executor.yaml`] });
    expect(unknownKeys(values, await readKeys(chart)).length).toBeGreaterThan(0);
  });
});

test('mappings are merged as Helm does it, and lists replaced', () => {
  expect(merged({ a: { b: 1, c: [1] }, d: 2 }, { a: { c: [2] }, d: { e: 3 } })).toEqual({
    a: { b: 1, c: [2] },
    d: { e: 3 },
  });
});
