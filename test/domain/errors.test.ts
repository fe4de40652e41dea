import { describe, expect, test } from 'vitest';
import {
  errnoOf,
  HTTP_STATUS_BY_CODE,
  isMissing,
  SidecarError,
  toSidecarError,
} from '../../src/domain/errors.ts';

/** What users match on; a line is added here only together with a documented code. */
const PROMISED = {
  400: ['invalid_request'],
  401: ['unauthorized'],
  403: ['forbidden_host', 'not_allowed'],
  404: [
    'alias_not_found',
    'job_unknown',
    'model_not_found',
    'no_version_in_stage',
    'not_found',
    'run_not_found',
    'version_not_found',
  ],
  405: ['method_not_allowed'],
  413: ['too_large'],
  415: ['unsupported_media_type'],
  500: ['internal'],
  501: ['not_implemented'],
  502: [
    'access_denied',
    'artifact_corrupt',
    'artifact_missing',
    'mlflow_error',
    'unsafe_path',
    'unsupported_scheme',
  ],
  503: ['circuit_open', 'mlflow_unreachable', 'overloaded', 'too_stale', 'version_not_ready'],
  504: ['artifact_timeout', 'deadline_exceeded', 'mlflow_timeout'],
  507: ['disk_full'],
};

test('the list of codes and their statuses is the promised one', () => {
  const byStatus = Object.groupBy(Object.entries(HTTP_STATUS_BY_CODE), ([, status]) => String(status));
  const sorted = Object.entries(byStatus).map(([status, rows]) => [
    status,
    (rows ?? []).map(([code]) => code).toSorted(),
  ]);
  expect(Object.fromEntries(sorted)).toEqual(PROMISED);
});

describe('any thrown value becomes a SidecarError', () => {
  test('one that is one already stays the same object', () => {
    const error = new SidecarError('not_found', 'no');
    expect(toSidecarError(error)).toBe(error);
  });

  test.each(['ENOSPC', 'EDQUOT'])('%s is disk_full, with a hint', code => {
    const cause = Object.assign(new Error('no space left'), { code });
    expect(toSidecarError(cause)).toMatchObject({ code: 'disk_full', cause });
    expect(toSidecarError(cause).hint).toContain('SIDECAR_CACHE_DIR');
  });

  test('a read-only disk takes nothing: disk_full, with a hint', () => {
    const cause = Object.assign(new Error('open'), { code: 'EROFS' });
    expect(toSidecarError(cause)).toMatchObject({
      code: 'disk_full',
      message: "The cache's disk is read-only: open",
    });
    expect(toSidecarError(cause).hint).toContain('writable');
  });

  test.each(['EIO', 'ESTALE', 'ETIMEDOUT'])('%s says that the disk fails, with a hint', code => {
    const error = toSidecarError(Object.assign(new Error('write failed'), { code }));
    expect(error).toMatchObject({ code: 'internal', message: "The cache's disk fails: write failed" });
    expect(error.hint).toContain('SIDECAR_CACHE_DIR');
  });

  test.each([
    [new TypeError('x is not a function'), 'x is not a function'],
    ['a string', 'a string'],
    [undefined, 'undefined'],
    [null, 'null'],
  ])('%s is internal', (thrown, message) => {
    expect(toSidecarError(thrown)).toMatchObject({ code: 'internal', message });
  });
});

test('a SidecarError without details has no hint and asks for no wait', () => {
  const error = new SidecarError('internal', 'x');
  expect([error.hint, error.retryAfterS, error.cause, error.name]).toEqual([
    null,
    null,
    undefined,
    'SidecarError',
  ]);
});

test('the name of a system error is found, and that of others is empty', () => {
  expect(errnoOf(Object.assign(new Error('x'), { code: 'ENOENT' }))).toBe('ENOENT');
  expect(errnoOf(Object.assign(new Error('x'), { code: 7 }))).toBe('');
  expect(errnoOf({ code: 'ENOENT' })).toBe('');
  expect(errnoOf(null)).toBe('');
});

test('only the codes of a definite 404 are "missing"', () => {
  const missing = Object.keys(HTTP_STATUS_BY_CODE).filter(code => code in HTTP_STATUS_BY_CODE);
  const found = missing.filter(code => PROMISED[404].includes(code));
  expect(found.toSorted()).toEqual(PROMISED[404]);
  expect(isMissing('no_version_in_stage')).toBe(true);
  expect(isMissing('artifact_missing')).toBe(false);
  expect(isMissing('access_denied')).toBe(false);
  expect(isMissing('mlflow_error')).toBe(false);
});
