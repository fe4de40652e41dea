import type { Response } from 'express';
import { type ErrorCode, isMissing, type SidecarError } from '../../domain/errors.ts';
import { mlflowError } from '../../proxy/answer.ts';
import { sendText } from '../send.ts';

/** Of which MLflow's client tries none again. What is missing is 404, too, as MLflow says it. */
const STATUS: Partial<Readonly<Record<ErrorCode, number>>> = {
  invalid_request: 400,
  unauthorized: 401,
  forbidden_host: 403,
  not_allowed: 403,
  method_not_allowed: 403,
  too_large: 413,
  unsupported_media_type: 415,
  not_implemented: 501,
};
/** Whoever asks is not to come again by itself: there is nothing to give, and it is known why. */
const NOTHING_TO_GIVE = 424;

/** What a file's answer had been given before it failed. */
const OF_A_FILE = ['Accept-Ranges', 'Age', 'Content-Disposition', 'Content-Range', 'ETag', 'X-Sidecar-Stale'];

/** MLflow's own names. */
const ERROR_CODE: Partial<Readonly<Record<ErrorCode, string>>> = {
  invalid_request: 'INVALID_PARAMETER_VALUE',
  too_large: 'INVALID_PARAMETER_VALUE',
  unsupported_media_type: 'INVALID_PARAMETER_VALUE',
  unauthorized: 'UNAUTHENTICATED',
  access_denied: 'PERMISSION_DENIED',
  forbidden_host: 'PERMISSION_DENIED',
  not_allowed: 'PERMISSION_DENIED',
  method_not_allowed: 'PERMISSION_DENIED',
  not_implemented: 'NOT_IMPLEMENTED',
  internal: 'INTERNAL_ERROR',
  artifact_corrupt: 'DATA_LOSS',
  unsafe_path: 'INVALID_STATE',
  unsupported_scheme: 'INVALID_STATE',
  version_not_ready: 'INVALID_STATE',
};

/** How MLflow's client is told of an error. */
export function mlflowStatusOf(code: ErrorCode): number {
  return STATUS[code] ?? (isMissing(code) ? 404 : NOTHING_TO_GIVE);
}

/** The error as MLflow writes it, with our code and what to do in the words that its client shows. */
export function mlflowErrorText({ code, message, hint }: SidecarError): string {
  const name = ERROR_CODE[code] ?? (isMissing(code) ? 'RESOURCE_DOES_NOT_EXIST' : 'TEMPORARILY_UNAVAILABLE');
  const words = hint === null ? message : `${message} ${hint}`;
  return mlflowError(name, `mlflow-sidecar: ${words} (${code})`, { code, hint });
}

export function sendMlflowError(res: Response, error: SidecarError): void {
  for (const name of OF_A_FILE) res.removeHeader(name);
  sendText(res, mlflowStatusOf(error.code), mlflowErrorText(error), 'application/json');
}
