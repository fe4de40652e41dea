import { describe, expect, test } from 'vitest';
import { type ErrorCode, HTTP_STATUS_BY_CODE, isMissing, SidecarError } from '../../src/domain/errors.ts';
import { parseModelUri } from '../../src/domain/model-uri.ts';
import { fallbackOf } from '../../src/reload/case.ts';
import { type Fallback, judgeUnobtained, judgeUnresolved } from '../../src/reload/verdict.ts';
import type { Ref } from '../../src/store/records/ref-record.ts';

const HOUR_MS = 3_600_000;
const CODES = Object.keys(HTTP_STATUS_BY_CODE).filter(
  (code): code is ErrorCode => code in HTTP_STATUS_BY_CODE,
);

const USABLE: Fallback = { usable: true, ageS: 60, maxStaleS: 600, ownCredential: true };
const TOO_OLD: Fallback = { ...USABLE, usable: false, ageS: 1_000 };
const NOTHING: Fallback = { ...USABLE, usable: false, ageS: null };

function error(code: ErrorCode): SidecarError {
  return new SidecarError(code, 'because');
}

describe('where MLflow did not say which version is wanted', () => {
  test.each<[ErrorCode, Fallback, string, string]>([
    ['mlflow_unreachable', USABLE, 'stale', 'mlflow_unreachable'],
    ['mlflow_timeout', USABLE, 'stale', 'mlflow_timeout'],
    ['mlflow_error', USABLE, 'stale', 'mlflow_error'],
    ['circuit_open', USABLE, 'stale', 'circuit_open'],
    ['overloaded', USABLE, 'stale', 'overloaded'],
    ['access_denied', USABLE, 'stale', 'access_denied'],
    ['model_not_found', USABLE, 'missing', 'model_not_found'],
    ['no_version_in_stage', USABLE, 'missing', 'no_version_in_stage'],
    ['alias_not_found', USABLE, 'missing', 'alias_not_found'],
    ['version_not_found', USABLE, 'missing', 'version_not_found'],
    ['run_not_found', USABLE, 'missing', 'run_not_found'],
    ['not_found', USABLE, 'missing', 'not_found'],
    ['mlflow_unreachable', TOO_OLD, 'failed', 'too_stale'],
    ['mlflow_timeout', TOO_OLD, 'failed', 'too_stale'],
    ['mlflow_error', TOO_OLD, 'failed', 'too_stale'],
    ['circuit_open', TOO_OLD, 'failed', 'too_stale'],
    ['overloaded', TOO_OLD, 'failed', 'too_stale'],
    ['circuit_open', NOTHING, 'failed', 'circuit_open'],
    ['access_denied', TOO_OLD, 'failed', 'access_denied'],
    ['no_version_in_stage', TOO_OLD, 'missing', 'no_version_in_stage'],
    ['mlflow_unreachable', NOTHING, 'failed', 'mlflow_unreachable'],
    ['mlflow_timeout', NOTHING, 'failed', 'mlflow_timeout'],
    ['access_denied', NOTHING, 'failed', 'access_denied'],
    ['model_not_found', NOTHING, 'missing', 'model_not_found'],
  ])('%s with %o', (code, fallback, kind, told) => {
    expect(judgeUnresolved(error(code), fallback)).toMatchObject({ kind, error: { code: told } });
  });

  test('a cached version that is too old says how old, how old it may be, and why MLflow said nothing', () => {
    const verdict = judgeUnresolved(error('mlflow_timeout'), TOO_OLD);
    expect(verdict).toMatchObject({
      error: {
        message: 'The cached version was confirmed 1000 s ago, more than max_stale_s (600 s) allows. because',
        hint: expect.stringContaining('max_stale_s'),
      },
    });
  });

  test('one that is too old, with MLflow left alone, is worth asking for when it is asked again', () => {
    const refused = new SidecarError('circuit_open', 'left alone', { retryAfterS: 42 });
    expect(judgeUnresolved(refused, TOO_OLD)).toMatchObject({
      error: { code: 'too_stale', retryAfterS: 42 },
    });
  });

  describe('since it refuses the credential', () => {
    test.each<[string, Partial<Fallback>, string]>([
      ['the sidecar’s own, just now', {}, 'stale'],
      ['the sidecar’s own, for too long', { usable: false }, 'failed'],
      ['the caller’s own', { ownCredential: false }, 'failed'],
    ])('%s', (_, change, kind) => {
      expect(judgeUnresolved(error('access_denied'), { ...USABLE, ...change }).kind).toBe(kind);
    });
  });
});

describe('how long a cached version is given while MLflow refuses the credential', () => {
  const NOW = 1_800_000_000_000;

  function usable(own: boolean, refusedForMs: number | null): boolean {
    const uri = parseModelUri('models:/churn/Production');
    const version = {
      name: 'churn',
      version: '1',
      stage: 'Production',
      aliases: [],
      runId: null,
      modelId: null,
      createdMs: null,
      source: '',
    };
    const published = { version, snapshot: 'a'.repeat(32), digest: 'sha256:0', files: 1, bytes: 1 };
    const refusedAt = refusedForMs === null ? null : NOW - refusedForMs;
    const ref: Ref = {
      uri,
      resolved: null,
      published,
      confirmedAt: NOW - HOUR_MS,
      previous: null,
      refusedAt,
    };
    return fallbackOf(ref, { id: '0'.repeat(32), own }, 100 * HOUR_MS, NOW).usable;
  }

  test.each([
    ['the sidecar’s own, not refused', true, null, true],
    ['the sidecar’s own, for 23 h', true, 23 * HOUR_MS, true],
    ['the sidecar’s own, for 24 h', true, 24 * HOUR_MS, false],
    ['the caller’s own, not refused', false, null, true],
    ['the caller’s own, just now', false, 0, false],
  ])('%s', (_, own, refusedForMs, expected) => {
    expect(usable(own, refusedForMs)).toBe(expected);
  });
});

describe('where the version that MLflow named cannot be had', () => {
  test.each(CODES)('%s is stale with the wanted version, whatever the reason', code => {
    expect(judgeUnobtained(error(code), '7', USABLE)).toEqual({
      kind: 'stale',
      error: expect.objectContaining({ code }),
      wanted: '7',
      refreshing: false,
    });
  });

  test.each(CODES)('%s without anything usable is missing or failed, and names the wanted version', code => {
    for (const fallback of [TOO_OLD, NOTHING]) {
      const verdict = judgeUnobtained(error(code), '7', fallback);
      expect(verdict.kind).toBe(isMissing(code) ? 'missing' : 'failed');
      expect(verdict).toMatchObject({ error: { code } });
      if (verdict.kind === 'failed') expect(verdict.wanted).toBe('7');
    }
  });
});
