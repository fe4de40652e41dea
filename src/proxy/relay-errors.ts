import { errnoOf, SidecarError, toSidecarError } from '../domain/errors.ts';
import type { FloorLimits } from '../policy/progress-floor.ts';
import { connectionError, isDroppedConnection } from '../upstream/failure.ts';
import type { Upload } from '../upstream/upload.ts';

/** undici's words for a request that it does not send. */
const NOT_SENDABLE = new Set([
  'UND_ERR_INVALID_ARG',
  'UND_ERR_NOT_SUPPORTED',
  'UND_ERR_REQ_CONTENT_LENGTH_MISMATCH',
]);

/** Why a request that was passed on has no answer. */
export function failureOf(
  who: string,
  error: unknown,
  upload: Upload | null,
  firstByteMs: number,
): SidecarError {
  const code = errnoOf(error);
  if (code === 'UND_ERR_HEADERS_TIMEOUT') return noAnswer(who, firstByteMs);
  if (NOT_SENDABLE.has(code)) {
    const { message } = toSidecarError(error);
    return new SidecarError('invalid_request', `The request cannot be passed on: ${message}.`);
  }
  const failure = connectionError(who, error);
  if (upload === null || !upload.isUnderWay || !isDroppedConnection(failure)) return failure;
  // Servers that refuse a body unread hang up, at times before their answer was read: that is no failure of theirs.
  const { hint, message } = failure;
  const isNoFault = { hint: hint ?? undefined, cause: error, serverFault: false };
  return new SidecarError(failure.code, `${message} It had not taken all of the request's body.`, isNoFault);
}

/** The whole exchange, up to the answer's head, took too long; a body that the caller held back is no fault of MLflow's. */
export function tooLate(who: string, ms: number, upload: Upload | null): SidecarError {
  return upload?.slowness(`${ms / 1_000} s`) ?? noAnswer(who, ms);
}

export function noTrial(who: string): SidecarError {
  const message = `${who} failed before, and a long upload is not sent to find out whether it is back.`;
  return new SidecarError('circuit_open', message, {
    hint: 'Ask again once a short request has been answered.',
    retryAfterS: 1,
  });
}

export function endless(who: string): SidecarError {
  const message = `${who}: the answer has neither a length nor a visible end, so that a cut could not be told.`;
  return new SidecarError('artifact_corrupt', message, {
    hint: 'Have what stands in front of MLflow speak HTTP/1.1 with Content-Length or chunks.',
  });
}

export function belowFloor(who: string, { bytesPerSecond, windowS }: FloorLimits): SidecarError {
  const speed = `${bytesPerSecond / 1_024} KiB/s`;
  return new SidecarError(
    'mlflow_timeout',
    `${who}: the answer came at less than ${speed} for ${windowS} s.`,
  );
}

function noAnswer(who: string, ms: number): SidecarError {
  return new SidecarError('mlflow_timeout', `${who}: no answer within ${ms / 1_000} s.`);
}
