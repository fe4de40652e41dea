import { expect, test } from 'vitest';
import { artifactItem, questionItem } from '../../src/upstream/items.ts';

const of = (path: string, fields: Readonly<Record<string, unknown>> = {}) =>
  questionItem(path, Object.entries(fields));

test('two models are two items, and so are two versions', () => {
  const latest = 'registered-models/get-latest-versions';
  expect(of(latest, { name: 'a', stages: ['Production'] })).not.toBe(of(latest, { name: 'b' }));
  expect(of('model-versions/get', { name: 'a', version: '1' })).not.toBe(
    of('model-versions/get', { name: 'a', version: '2' }),
  );
  expect(of('logged-models/m-1')).not.toBe(of('logged-models/m-2'));
});

test('a search is one item, however it is filtered and paged', () => {
  const search = 'registered-models/search';
  expect(of(search, { page_token: 'bad', filter: 'x' })).toBe(of(search, { page_token: 'worse' }));
});

test('numbers that no database keeps are one item, whatever the model', () => {
  const asked = (name: string, version: string) => of('model-versions/get', { name, version });
  expect(asked('a', '12345678901234567890')).toBe(asked('b', '99999999999999999999999'));
  expect(asked('a', '2147483648')).not.toBe(asked('b', '2147483648'));
});

test('all files of a run are one item', () => {
  const file = (path: string) => artifactItem(path.split('/'));
  expect(file('0/run/artifacts/model/MLmodel')).toBe(file('0/run/artifacts/other/data/x'));
  expect(file('0/run/artifacts/model')).not.toBe(file('0/run2/artifacts/model'));
  expect(file('odd/place/a')).toBe(file('odd/place/b'));
});
