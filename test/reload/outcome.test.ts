import { describe, expect, test } from 'vitest';
import { SidecarError } from '../../src/domain/errors.ts';
import { OutcomeSchema, retryAfterOf } from '../../src/domain/outcome.ts';
import { scopeOf } from '../../src/domain/scope.ts';
import { type Account, toOutcome } from '../../src/reload/outcome.ts';
import type { Verdict } from '../../src/reload/verdict.ts';
import { Layout } from '../../src/store/disk/layout.ts';
import type { Ref } from '../../src/store/records/ref-record.ts';
import { requestFor, VERSION } from './support.ts';

const LAYOUT = new Layout('/cache');
const NOW = 1_700_000_100_000;
const OWN = scopeOf('http://mlflow:5000', null, null);
const CALLERS = scopeOf('http://mlflow:5000', null, 'Bearer x');
const REQUEST = requestFor('models:/churn/production');
const SNAPSHOT = 'a'.repeat(32);

function ref(version: string, snapshot: string, confirmedAt = NOW - 42_000): Ref {
  return {
    uri: REQUEST.uri,
    resolved: null,
    published: { version: { ...VERSION, version }, snapshot, digest: 'sha256:00', files: 7, bytes: 48_318 },
    confirmedAt,
    refusedAt: null,
    previous: null,
  };
}

const NONE: Ref = {
  uri: REQUEST.uri,
  resolved: null,
  published: null,
  previous: null,
  confirmedAt: null,
  refusedAt: null,
};

function account(change: Partial<Account> = {}): Account {
  return {
    request: REQUEST,
    scope: OWN,
    mlflowUri: 'http://mlflow:5000',
    before: ref('1', 'b'.repeat(32)),
    after: ref('2', SNAPSHOT),
    attempts: 2,
    durationMs: 412.6,
    breaker: 'closed',
    now: NOW,
    ...change,
  };
}

const GIVEN: Verdict = { kind: 'given', status: 'loaded', source: 'mlflow' };
const ERROR = new SidecarError('mlflow_timeout', 'MLflow did not answer', { hint: 'Wait.' });
const STALE: Verdict = { kind: 'stale', error: ERROR, wanted: '3', refreshing: true };
const MISSING: Verdict = {
  kind: 'missing',
  error: new SidecarError('no_version_in_stage', 'none', { hint: 'Expected.' }),
};
const FAILED: Verdict = { kind: 'failed', error: ERROR, wanted: '3', refreshing: true };

test('a version that was loaded is told with everything about it', () => {
  expect(toOutcome(GIVEN, account(), LAYOUT)).toEqual({
    status: 'loaded',
    model_uri: 'models:/churn/Production',
    mlflow_uri: 'http://mlflow:5000',
    name: 'churn',
    version: '2',
    wanted_version: null,
    previous_version: '1',
    changed: true,
    stage: 'Production',
    aliases: ['champion'],
    run_id: 'run-2',
    model_id: 'm-2',
    created: 1_731_358_595.123,
    path: `/cache/v1/snapshots/${SNAPSHOT}`,
    ref_path: '/cache/v1/models/churn/Production',
    digest: 'sha256:00',
    files: 7,
    bytes: 48_318,
    source: 'mlflow',
    age_s: 0,
    duration_s: 0.413,
    attempts: 2,
    breaker: 'closed',
    refreshing: false,
    job_id: null,
    warning: null,
    request_id: 'r-1',
  });
});

test.each([
  ['loaded', GIVEN],
  ['unchanged', { kind: 'given', status: 'unchanged', source: 'cache' } as const],
  ['stale', STALE],
  ['missing', MISSING],
  ['failed', FAILED],
])('the outcome of %s is one by its own schema', (status, verdict) => {
  const outcome = toOutcome(verdict, account(), LAYOUT);
  expect(outcome.status).toBe(status);
  expect(OutcomeSchema.parse(outcome)).toEqual(outcome);
});

test('a failure’s time to ask again is beside its outcome, not in it', () => {
  const error = new SidecarError('circuit_open', 'left alone', { retryAfterS: 42.5 });
  const failed = toOutcome({ ...FAILED, error }, account({ breaker: 'open' }), LAYOUT);
  expect(failed.breaker).toBe('open');
  expect(retryAfterOf(failed)).toBe(42.5);
  expect(JSON.stringify(failed)).not.toContain('42.5');
  expect(retryAfterOf(toOutcome(FAILED, account(), LAYOUT))).toBeUndefined();
  expect(retryAfterOf(toOutcome({ ...STALE, error }, account(), LAYOUT))).toBeUndefined();
});

test('changed means another snapshot than before, not another version number', () => {
  const same = ref('2', SNAPSHOT);
  expect(toOutcome(GIVEN, account({ before: same }), LAYOUT).changed).toBe(false);
  expect(toOutcome(GIVEN, account({ before: ref('2', 'c'.repeat(32)) }), LAYOUT).changed).toBe(true);
  expect(toOutcome(GIVEN, account({ before: NONE }), LAYOUT)).toMatchObject({
    changed: true,
    previous_version: null,
  });
});

test('a stale one is given with its age, the wanted version and the reason', () => {
  const unchanged = ref('1', SNAPSHOT);
  const outcome = toOutcome(STALE, account({ before: unchanged, after: unchanged }), LAYOUT);
  expect(outcome).toMatchObject({
    status: 'stale',
    version: '1',
    wanted_version: '3',
    previous_version: '1',
    changed: false,
    path: `/cache/v1/snapshots/${SNAPSHOT}`,
    source: 'cache',
    age_s: 42,
    refreshing: true,
    warning: { code: 'mlflow_timeout', message: 'MLflow did not answer', hint: 'Wait.' },
  });
});

test('an age is never negative, though the clock was set back', () => {
  const later = ref('1', SNAPSHOT, NOW + 60_000);
  expect(toOutcome(STALE, account({ before: later, after: later }), LAYOUT).age_s).toBe(0);
});

describe.each([
  ['missing', MISSING],
  ['failed', FAILED],
])('%s gives nothing', (_, verdict) => {
  test('though something is published, which stays as the previous version', () => {
    const published = ref('1', SNAPSHOT);
    expect(toOutcome(verdict, account({ before: published, after: published }), LAYOUT)).toMatchObject({
      name: 'churn',
      version: null,
      previous_version: '1',
      changed: false,
      stage: null,
      aliases: [],
      run_id: null,
      created: null,
      path: null,
      ref_path: null,
      digest: null,
      files: null,
      bytes: null,
      source: null,
      age_s: null,
    });
  });

  test('and names no model where the URI names none', () => {
    const request = requestFor('runs:/abc/model');
    expect(toOutcome(verdict, account({ request, before: null, after: null }), LAYOUT).name).toBeNull();
  });
});

test('a failure’s hint ends with what becomes of the model', () => {
  expect(toOutcome(FAILED, account(), LAYOUT).warning?.hint).toBe(
    'Wait. The model will be lazy-loaded on first prediction.',
  );
  const bare: Verdict = { ...FAILED, error: new SidecarError('internal', 'oh') };
  expect(toOutcome(bare, account(), LAYOUT).warning?.hint).toBe(
    'The model will be lazy-loaded on first prediction.',
  );
  expect(toOutcome(MISSING, account(), LAYOUT).warning?.hint).toBe('Expected.');
});

test('at the deadline the run goes on, and the wanted version is told', () => {
  const error = new SidecarError('deadline_exceeded', 'late');
  expect(toOutcome({ ...FAILED, error }, account(), LAYOUT)).toMatchObject({
    status: 'failed',
    wanted_version: '3',
    refreshing: true,
    warning: { code: 'deadline_exceeded' },
  });
});

test('what a caller’s own credential fetched has no link that others could see', () => {
  const outcome = toOutcome(GIVEN, account({ scope: CALLERS }), LAYOUT);
  expect(outcome.ref_path).toBeNull();
  expect(outcome.path).not.toBeNull();
});

test('a cache that does not work gives nothing', () => {
  const outcome = toOutcome(FAILED, account({ before: null, after: null }), null);
  expect(outcome).toMatchObject({ path: null, ref_path: null, changed: false, previous_version: null });
});

describe('an outcome is under 4 KB', () => {
  const LONG = 'n'.repeat(260);

  function size(uri: string, aliases: readonly string[], verdict: Verdict = STALE): number {
    const request = requestFor(uri);
    const published = ref('2', SNAPSHOT).published;
    if (published === null) throw new Error('nothing is published');
    const after: Ref = {
      ...ref('2', SNAPSHOT),
      uri: request.uri,
      published: { ...published, version: { ...VERSION, name: LONG, aliases } },
    };
    const outcome = toOutcome(verdict, account({ request, before: after, after }), LAYOUT);
    return Buffer.byteLength(JSON.stringify(outcome));
  }

  test('with a name of 260 characters and three aliases', () => {
    expect(size(`models:/${LONG}@champion`, ['champion', 'challenger', 'best'])).toBeLessThan(4_096);
  });

  test('with a name of 260 characters and 20 aliases of 200', () => {
    const aliases = Array.from({ length: 20 }, (_, n) => `${n}`.padStart(200, 'a'));
    expect(size(`models:/${LONG}/Production`, aliases)).toBeLessThan(4_096);
  });

  test('with the longest URI that is taken, in letters of three bytes', () => {
    expect(size(`models:/${'模'.repeat(200)}/${'型'.repeat(60)}`, [])).toBeLessThan(4_096);
  });
});
