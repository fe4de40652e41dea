import { describe, expect, test } from 'vitest';
import type { Caller } from '../../src/domain/caller.ts';
import { SidecarError } from '../../src/domain/errors.ts';
import type { SidecarEvent } from '../../src/domain/events.ts';
import type { Outcome } from '../../src/domain/outcome.ts';
import { outcome as exampleOutcome } from '../support/outcome.ts';
import { linesOf } from './support.ts';

const URI = 'models:/topic-classification/Production';

const CALLER: Caller = {
  requestId: 'req-1',
  airflow: {
    dag_id: 'ml_model_training',
    dag_run_id: 'manual__1',
    task_id: 'reload_models',
    try_number: '2',
  },
  authorization: 'Bearer of-the-caller',
};

function outcome(changes: Partial<Outcome> = {}): Outcome {
  const ours = { aliases: [], run_id: 'of-mlflow', duration_s: 0.4123, request_id: 'req-1' };
  return exampleOutcome({ model_uri: URI, ...ours, ...changes });
}

const finished = (changes: Partial<Outcome> = {}): SidecarEvent => ({
  type: 'reload_finished',
  caller: CALLER,
  outcome: outcome(changes),
  runId: 'run-1',
  phases: { resolve: 12.4 },
});

const RUN = {
  origin: { runId: 'run-1', modelUri: URI, caller: CALLER },
  version: '2',
  phases: { resolve: 12.4, list: 3, fetch: 100.6, publish: 5 },
  fetched: { files: 7, bytes: 48_318 },
};
const refused = new SidecarError('mlflow_unreachable', 'MLflow does not answer.', {
  cause: new Error('ECONNREFUSED'),
});

const DAMAGED = {
  type: 'blob_damaged',
  path: 'snapshots/s1/MLmodel',
  sha256: 'ab',
  size: 2,
  found: 'is missing',
  snapshots: ['s1'],
  modelUris: ['models:/a/1', 'models:/a@b'],
} as const;

test('a reload’s line says what, for whom, how long and how it ended', () => {
  const [line] = linesOf(finished());
  expect(line).toEqual({
    level: 'info',
    time: expect.any(String),
    event: 'reload_finished',
    request_id: 'req-1',
    dag_id: 'ml_model_training',
    dag_run_id: 'manual__1',
    task_id: 'reload_models',
    try_number: '2',
    model_uri: URI,
    version: '2',
    sidecar_run_id: 'run-1',
    status: 'loaded',
    duration_ms: 412,
    durations_ms: { resolve: 12 },
    attempts: 1,
    age_s: 0,
    refreshing: false,
    msg: `Loaded ${URI} (version 2)`,
  });
  expect(JSON.stringify(line)).not.toContain('of-the-caller');
});

const SERVER = { name: 'registry', host: 'mlflow:5000' } as const;

describe('the level and words of a reload', () => {
  const warning = { code: 'mlflow_timeout', message: 'MLflow took too long.', hint: 'Look at it.' } as const;
  const cases: readonly [Partial<Outcome>, string, string][] = [
    [{ status: 'unchanged' }, 'info', `${URI} (version 2) is up to date`],
    [
      { status: 'stale', warning, wanted_version: '3' },
      'warn',
      `Gave the last good model for ${URI} (version 2): MLflow took too long.`,
    ],
    [
      {
        status: 'missing',
        version: null,
        path: null,
        warning: { ...warning, code: 'model_not_found', message: `${URI}: no such model` },
      },
      'warn',
      `There is no ${URI}: no such model`,
    ],
    [
      { status: 'failed', version: null, path: null, warning },
      'warn',
      `Could not load ${URI}: MLflow took too long.`,
    ],
    [
      { status: 'failed', path: null, warning: { ...warning, code: 'internal' } },
      'error',
      `Could not load ${URI}: MLflow took too long.`,
    ],
  ];
  test.each(cases)('%o', (changes, level, msg) => {
    expect(linesOf(finished(changes))).toMatchObject([{ level, msg }]);
  });

  test('a stale one names the reason and the version that was wanted', () => {
    const line = linesOf(finished({ status: 'stale', warning, wanted_version: '3' }))[0];
    expect(line).toMatchObject({
      code: 'mlflow_timeout',
      reason: 'MLflow took too long.',
      hint: 'Look at it.',
      wanted_version: '3',
    });
  });
});

describe('each event gives one line', () => {
  const unforeseen = new TypeError('x is undefined');
  const cases: readonly [SidecarEvent, object][] = [
    [
      { type: 'run_finished', status: 'loaded', ...RUN },
      {
        level: 'info',
        sidecar_run_id: 'run-1',
        model_uri: URI,
        version: '2',
        durations_ms: { resolve: 12, list: 3, fetch: 101, publish: 5 },
        msg: `Fetched and published ${URI} (version 2).`,
      },
    ],
    [
      { type: 'run_failed', ...RUN, version: null, phases: { resolve: 1 }, error: refused },
      {
        level: 'warn',
        version: null,
        durations_ms: { resolve: 1 },
        code: 'mlflow_unreachable',
        reason: 'MLflow does not answer.',
        causes: ['ECONNREFUSED'],
        msg: `Could not fetch ${URI}: MLflow does not answer.`,
      },
    ],
    [
      { type: 'run_failed', ...RUN, error: unforeseen },
      { level: 'error', code: 'internal', stack: unforeseen.stack },
    ],
    [
      {
        type: 'try_failed',
        what: 'the version',
        attempt: 1,
        origin: RUN.origin,
        error: refused,
        retryInMs: 2_000.4,
      },
      {
        level: 'warn',
        attempt: 1,
        retry_in_ms: 2_000,
        msg: 'Try 1 of the version failed (next in 2000 ms): MLflow does not answer.',
      },
    ],
    [
      { type: 'try_failed', what: 'the version', attempt: 3, origin: null, error: refused, retryInMs: null },
      { retry_in_ms: null, msg: 'Try 3 of the version failed (no further try): MLflow does not answer.' },
    ],
    [
      {
        type: 'request_refused',
        caller: CALLER,
        method: 'POST',
        path: '/v1/reload',
        error: new SidecarError('unauthorized', 'No token.'),
      },
      {
        level: 'warn',
        request_id: 'req-1',
        dag_id: 'ml_model_training',
        code: 'unauthorized',
        msg: 'Refused POST /v1/reload: No token.',
      },
    ],
    [
      { type: 'cache_recovered', refs: 2, swept: 1, dropped: [] },
      { level: 'info', refs: 2, swept: 1 },
    ],
    [
      { type: 'file_system_lacks', costs: ['hard links: twice the space', 'symbolic links: no models/'] },
      {
        level: 'warn',
        msg: 'The file system of the cache lacks hard links: twice the space. It lacks symbolic links: no models/.',
      },
    ],
    [
      { type: 'cache_recovered', refs: 2, swept: 1, dropped: ['x'] },
      { level: 'warn', dropped: ['x'] },
    ],
    [
      { type: 'cache_collected', snapshots: 2, freedBytes: 2_048, why: ['litter', 'space'] },
      {
        level: 'info',
        snapshots: 2,
        freed_bytes: 2_048,
        msg: 'Collected old versions from the cache. Removed: 2; freed: 2.0 KiB; why: litter, space.',
      },
    ],
    [
      { type: 'cache_unusable', error: new SidecarError('disk_full', 'No space.') },
      { level: 'error', code: 'disk_full', msg: 'The cache does not work: No space.' },
    ],
    [
      { type: 'breaker_changed', ...SERVER, from: 'closed', to: 'open', reason: 'HTTP 503.' },
      {
        level: 'warn',
        breaker: 'registry',
        host: 'mlflow:5000',
        from: 'closed',
        to: 'open',
        reason: 'HTTP 503.',
        msg: 'The registry mlflow:5000 is left alone for a while: HTTP 503.',
      },
    ],
    [
      { type: 'breaker_changed', ...SERVER, from: 'open', to: 'half-open', reason: null },
      { level: 'info', msg: 'The registry mlflow:5000 is asked again, by a trial.' },
    ],
    [
      {
        type: 'breaker_changed',
        ...SERVER,
        name: 'artifacts',
        from: 'half-open',
        to: 'closed',
        reason: null,
      },
      { level: 'info', msg: 'The artifact server mlflow:5000 is well again.' },
    ],
    [
      { ...DAMAGED, error: null },
      {
        level: 'error',
        msg: 'In the cache snapshots/s1/MLmodel is missing. It is part of models:/a/1, models:/a@b. It was moved to state/quarantine; what is intact beside it is kept, the rest is fetched again.',
        path: 'snapshots/s1/MLmodel',
        sha256: 'ab',
        snapshots: ['s1'],
        model_uris: ['models:/a/1', 'models:/a@b'],
      },
    ],
    [
      { ...DAMAGED, modelUris: [], error: new SidecarError('disk_full', 'No space.') },
      {
        level: 'error',
        msg: 'In the cache snapshots/s1/MLmodel is missing. It is part of no model. It could not be moved (No space.), but this sidecar does not give it any more.',
      },
    ],
    [
      { type: 'scrub_finished', files: 3, bytes: 40, damaged: 1, durationMs: 1_999.5 },
      { level: 'info', msg: 'Verified the cache: 3 files, 40 bytes in 2 s; damaged: 1.', duration_ms: 2_000 },
    ],
  ];
  test.each(cases)('%o', (event, fields) => {
    const lines = linesOf(event);
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatchObject({ event: event.type, ...fields });
  });
});

test('a run that a breaker refused has no line of its own: its call says so', () => {
  const error = new SidecarError('circuit_open', 'left alone');
  expect(linesOf({ type: 'run_failed', ...RUN, error })).toEqual([]);
});

describe('what is loaded before anybody asks', () => {
  const prewarmed = (changes: Partial<Outcome>): SidecarEvent => ({
    type: 'prewarm_finished',
    reason: 'schedule',
    outcome: outcome(changes),
  });
  const warning = (code: 'circuit_open' | 'mlflow_timeout') => ({
    code,
    message: `${URI}: too slow.`,
    hint: 'h',
  });

  test.each([
    [prewarmed({ status: 'loaded' }), 'info', `By schedule: Loaded ${URI} (version 2)`],
    [
      prewarmed({ status: 'stale', warning: warning('mlflow_timeout') }),
      'warn',
      `By schedule: Gave the last good model for ${URI} (version 2): too slow.`,
    ],
    [
      { type: 'prewarm_finished', reason: 'warmup', outcome: outcome() },
      'info',
      `At the start: Loaded ${URI} (version 2)`,
    ],
  ] as const)('has a line', (event, level, msg) => {
    expect(linesOf(event)).toMatchObject([{ level, msg, model_uri: URI }]);
  });

  test('has none where nothing is new, none while MLflow is left alone, nor a second one as a reload', () => {
    const caller: Caller = { requestId: 'r', airflow: {}, authorization: null, prewarm: 'schedule' };
    const asReload: SidecarEvent = {
      type: 'reload_finished',
      caller,
      outcome: outcome(),
      runId: null,
      phases: {},
    };
    expect(
      linesOf(
        prewarmed({ status: 'stale', warning: warning('circuit_open') }),
        prewarmed({ status: 'unchanged' }),
        asReload,
      ),
    ).toEqual([]);
  });

  test('says what was left out', () => {
    const model = { kind: 'version', name: 'a', version: '1' } as const;
    expect(linesOf({ type: 'prewarm_skipped', model })).toMatchObject([
      {
        level: 'warn',
        msg: 'Left out a time of the schedule of models:/a/1, since the run before is not over.',
      },
    ]);
  });
});
