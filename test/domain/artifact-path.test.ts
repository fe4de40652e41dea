import { expect, test } from 'vitest';
import { holdsPath } from '../../src/domain/artifact-path.ts';

const ROOT = 'mlflow-artifacts:/0/r/artifacts/model';

test.each([
  ['0/r/artifacts/model', true],
  ['0/r/artifacts/model/data/a.bin', true],
  ['0/r/artifacts', true],
  ['0/r', true],
  ['0/r/artifacts/model2', false],
  ['0/r/artifacts/mode', false],
  ['0/s/artifacts/model', false],
  ['r/artifacts/model', false],
])('a change at %s concerns the version: %s', (path, expected) => {
  expect(holdsPath([ROOT], path)).toBe(expected);
});

test('of files that lie over one another a change of either counts, on whatever host they are', () => {
  const root = [ROOT, 'mlflow-artifacts://mlflow:5000/0/models/m-1/artifacts'] as const;
  expect(['0/models/m-1/artifacts/x', '0/r/artifacts/model/x'].map(path => holdsPath(root, path))).toEqual([
    true,
    true,
  ]);
  expect(holdsPath(['s3://bucket/0/r'], '0/r')).toBe(false);
});
