import { expect, test } from 'vitest';
import { isSameVersion, type ModelVersion } from '../../src/domain/version.ts';

const VERSION: ModelVersion = {
  name: 'churn',
  version: '3',
  stage: 'Production',
  aliases: ['champion'],
  runId: 'run',
  modelId: 'm-1',
  createdMs: 1_731_358_595_123,
  source: 'models:/m-1',
};

test('a version that moved to another stage or alias is the same version', () => {
  expect(isSameVersion(VERSION, { ...VERSION, stage: 'Archived', aliases: [] })).toBe(true);
});

test.each([
  ['a later creation time', { createdMs: 1_731_358_595_124 }],
  ['another artifact root', { source: 'models:/m-2' }],
  ['another number', { version: '4' }],
  ['another name', { name: 'sentiment' }],
  ['another logged model', { modelId: 'm-2' }],
])('the same number with %s is another version', (_, change) => {
  expect(isSameVersion(VERSION, { ...VERSION, ...change })).toBe(false);
});
