import { describe, expect, test } from 'vitest';
import { parseModelUri } from '../../src/domain/model-uri.ts';
import { Allowed } from '../../src/proxy/allowed.ts';
import { Interests } from '../../src/proxy/interests.ts';
import { fetched, OWN, ofVersion, openStore } from '../store/support.ts';
import { read } from './support.ts';

const CHAMPION = read('registered-models/alias', { name: 'churn', alias: 'champion' });
const VERSION_4 = read('model-versions/get-download-uri', { name: 'churn', version: '4' });

function isAllowed(allowed: Allowed, asked: ReturnType<typeof read>): boolean {
  try {
    allowed.assertRead(asked, OWN, null);
    return true;
  } catch {
    return false;
  }
}

describe('with SIDECAR_ALLOW=models:/churn@champion', () => {
  const interests = new Interests();
  const allowed = new Allowed(['models:/churn@champion'], interests);

  test.each<[string, Record<string, unknown>, boolean]>([
    ['registered-models/alias', { name: 'churn', alias: 'champion' }, true],
    ['registered-models/alias', { name: 'churn', alias: 'other' }, false],
    ['registered-models/get', { name: 'churn' }, true],
    ['registered-models/get', { name: 'churn2' }, false],
    ['registered-models/get-latest-versions', { name: 'churn' }, false],
    ['registered-models/search', {}, false],
    ['model-versions/get', { name: 'churn', version: '3' }, false],
    ['logged-models/m-1', {}, false],
    ['runs/get', { run_id: 'abc' }, false],
    ['server-info', {}, true],
  ])('%s %j: %s', (route, fields, expected) => {
    expect(isAllowed(allowed, read(route, fields))).toBe(expected);
  });

  test('a version may be had once the alias was said to mean it', () => {
    expect(isAllowed(allowed, VERSION_4)).toBe(false);
    interests.resolved(OWN, parseModelUri('models:/churn@champion'), 'churn', '4');
    expect(isAllowed(allowed, VERSION_4)).toBe(true);
    expect(isAllowed(allowed, CHAMPION)).toBe(true);
  });

  test('a file that belongs to no version may not', () => {
    expect(() => allowed.assertPath('0/abc/artifacts/data.csv', OWN)).toThrow(/SIDECAR_ALLOW|not allowed/);
  });
});

test('what is published under a URI that is allowed may be had, also after a restart', async () => {
  const { store } = await openStore();
  const published = {
    ...(await fetched(store, '4')),
    root: ['mlflow-artifacts:/0/models/m-4/artifacts'] as const,
  };
  const [source] = published.root;
  const root = ofVersion([source]);
  const uri = parseModelUri('models:/churn/Production');
  await store.refs.publish(OWN, uri, { ...published, root: [source] }, 1, 1);
  const allowed = new Allowed(['models:/churn/Production'], new Interests());
  expect(() => allowed.assertRead(VERSION_4, OWN, store.refs)).not.toThrow();
  expect(() => allowed.assertRoot(root, OWN, store.refs)).not.toThrow();
  const others = new Allowed(['models:/other/*'], new Interests());
  expect(() => others.assertRead(VERSION_4, OWN, store.refs)).toThrow(/not allowed/);
  expect(() => others.assertRoot(root, OWN, store.refs)).toThrow(/not allowed/);
});

test('an artifact of a run that is over may be had where the run’s model may', () => {
  const interests = new Interests();
  interests.ran(OWN, {
    runId: 'abc',
    root: 'mlflow-artifacts:/0/abc/artifacts',
    startedMs: 1,
    endedMs: 2,
  });
  const allowed = new Allowed(['runs:/abc/model'], interests);
  expect(() => allowed.assertPath('0/abc/artifacts/model/data/x.bin', OWN)).not.toThrow();
  expect(() => allowed.assertPath('0/abc/artifacts/secret/x.bin', OWN)).toThrow(/not allowed/);
});

test('nothing, and a star, allow everything', () => {
  for (const patterns of [[], ['*']]) {
    const allowed = new Allowed(patterns, new Interests());
    expect(isAllowed(allowed, read('registered-models/search'))).toBe(true);
    expect(() => allowed.assertPath('x/y', OWN)).not.toThrow();
  }
});

test('a stage is allowed in whatever case it is asked for', () => {
  const allowed = new Allowed(['models:/churn/Production'], new Interests());
  const ask = (stage: string) =>
    read('registered-models/get-latest-versions', { name: 'churn', stages: [stage] }, 'POST');
  expect(['Production', 'production', 'Staging'].map(stage => isAllowed(allowed, ask(stage)))).toEqual([
    true,
    true,
    false,
  ]);
});
