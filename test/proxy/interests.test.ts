import { expect, test } from 'vitest';
import { formatModelUri, parseModelUri } from '../../src/domain/model-uri.ts';
import type { VersionRoot } from '../../src/domain/version.ts';
import { Interests } from '../../src/proxy/interests.ts';
import { learn } from '../../src/proxy/learn.ts';
import { OWN, ofVersion } from '../store/support.ts';
import { read } from './support.ts';

const ONE = ofVersion(['mlflow-artifacts:/0/models/m-1/artifacts']);
const TWO = ofVersion(['mlflow-artifacts:/0/models/m-2/artifacts']);
const ALIAS = parseModelUri('models:/churn@champion');

function urisAt(interests: Interests, root: VersionRoot): readonly string[] {
  return interests.urisAt(OWN, root).map(formatModelUri).toSorted();
}

/** By MLflow's own address of ONE's root. */
function urisShown(interests: Interests): readonly string[] | null {
  const version = interests.shownAt(OWN, ONE.root);
  return version === null ? null : urisAt(interests, { root: ONE.root, version });
}

test('a root is what a version is loaded from, under its number and under what means it', () => {
  const interests = new Interests();
  interests.resolved(OWN, ALIAS, 'churn', '1');
  interests.located(OWN, 'churn', '1', ONE);
  expect(urisAt(interests, ONE)).toEqual(['models:/churn/1', 'models:/churn@champion']);
  expect(interests.has(OWN, ONE)).toBe(true);
  expect(interests.has(OWN, TWO)).toBe(false);
  expect(interests.has({ id: 'another', own: false }, ONE)).toBe(false);
});

test('an alias that moved on means only what it means now', () => {
  const interests = new Interests();
  interests.resolved(OWN, ALIAS, 'churn', '1');
  interests.located(OWN, 'churn', '1', ONE);
  interests.resolved(OWN, ALIAS, 'churn', '2');
  interests.located(OWN, 'churn', '2', TWO);
  expect(urisAt(interests, ONE)).toEqual(['models:/churn/1']);
  expect(urisAt(interests, TWO)).toEqual(['models:/churn/2', 'models:/churn@champion']);
});

test('what is asked for is remembered up to a bound', () => {
  const interests = new Interests();
  for (let n = 0; n < 1_500; n++) interests.holds(OWN, ofVersion([`mlflow-artifacts:/0/${n}`]), ALIAS);
  expect(interests.has(OWN, ofVersion(['mlflow-artifacts:/0/0']))).toBe(false);
  expect(interests.has(OWN, ofVersion(['mlflow-artifacts:/0/1499']))).toBe(true);
});

function taught(route: string, fields: object, body: unknown, method = 'GET'): Interests {
  const interests = new Interests();
  const asked = read(route, { ...fields }, method);
  learn({ read: asked, body, scope: OWN, order: 1, now: 1 }, null, interests);
  return interests;
}

test('the stage that was asked for means its version, and without one the highest is the latest', () => {
  const versions = [
    { name: 'churn', version: '2', current_stage: 'Production' },
    { name: 'churn', version: '10', current_stage: 'None' },
  ];
  const route = 'registered-models/get-latest-versions';
  const body = { model_versions: versions };
  const staged = taught(route, { name: 'churn', stages: ['production'] }, body, 'POST');
  expect(staged.meaning(OWN, 'churn', '2').map(formatModelUri)).toEqual(['models:/churn/Production']);
  expect(staged.meaning(OWN, 'churn', '10')).toEqual([]);
  const all = taught(route, { name: 'churn' }, body, 'POST');
  expect(all.meaning(OWN, 'churn', '10').map(formatModelUri)).toEqual(['models:/churn/latest']);
  expect(all.meaning(OWN, 'churn', '2')).toEqual([]);
});

test('a logged model that is ready, and a run that is over, hold what does not change', () => {
  const info = { model_id: 'm-1', artifact_uri: ONE.root[0], status: 'LOGGED_MODEL_READY' };
  expect(urisShown(taught('logged-models/m-1', {}, { model: { info } }))).toEqual(['models:/m-1']);
  const pending = { model: { info: { ...info, status: 'LOGGED_MODEL_PENDING' } } };
  expect(urisShown(taught('logged-models/m-1', {}, pending))).toBeNull();
  const run = { run_id: 'abc', experiment_id: '0', artifact_uri: 'mlflow-artifacts:/0/abc/artifacts' };
  const over = taught('runs/get', { run_id: 'abc' }, { run: { info: { ...run, status: 'FINISHED' } } });
  expect(over.runUriOf(OWN, 'mlflow-artifacts:/0/abc/artifacts/sub/model')).toEqual({
    kind: 'run',
    runId: 'abc',
    path: 'sub/model',
  });
  const running = taught('runs/get', { run_id: 'abc' }, { run: { info: { ...run, status: 'RUNNING' } } });
  expect(running.runUriOf(OWN, 'mlflow-artifacts:/0/abc/artifacts/model')).toBeNull();
});

test.each([null, 'text', { model_versions: 'x' }, { model: {} }, { run: { info: { run_id: 1 } } }])(
  'an answer of another shape (%j) teaches nothing',
  body => {
    for (const route of ['registered-models/alias', 'runs/get', 'logged-models/m-1']) {
      expect(() => taught(route, { name: 'churn', alias: 'a' }, body)).not.toThrow();
    }
  },
);

test('a logged model of a run that a client asked for is what that run logged under its name', () => {
  const interests = new Interests();
  const teach = (route: string, body: unknown) =>
    learn({ read: read(route, { run_id: 'abc' }), body, scope: OWN, order: 1, now: 1 }, null, interests);
  const info = {
    model_id: 'm-1',
    name: 'model',
    source_run_id: 'abc',
    artifact_uri: ONE.root[0],
    status: 'READY',
  };
  teach('logged-models/m-1', { model: { info } });
  expect(urisShown(interests)).toEqual(['models:/m-1']);
  const run = { run_id: 'abc', experiment_id: '0', artifact_uri: 'mlflow-artifacts:/0/abc/artifacts' };
  teach('runs/get', { run: { info: { ...run, status: 'FINISHED' } } });
  teach('logged-models/m-1', { model: { info } });
  expect(urisShown(interests)).toEqual(['models:/m-1', 'runs:/abc/model']);
});
