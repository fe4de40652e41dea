/**
 * The closed list of error codes and the HTTP status each is due where a status must be chosen.
 * A code never changes its meaning; users match on it.
 */
export const HTTP_STATUS_BY_CODE = {
  invalid_request: 400,
  unauthorized: 401,
  forbidden_host: 403,
  not_allowed: 403,
  model_not_found: 404,
  no_version_in_stage: 404,
  alias_not_found: 404,
  version_not_found: 404,
  run_not_found: 404,
  not_found: 404,
  job_unknown: 404,
  method_not_allowed: 405,
  too_large: 413,
  unsupported_media_type: 415,
  not_implemented: 501,
  internal: 500,
  mlflow_error: 502,
  access_denied: 502,
  artifact_missing: 502,
  artifact_corrupt: 502,
  unsafe_path: 502,
  unsupported_scheme: 502,
  mlflow_unreachable: 503,
  circuit_open: 503,
  overloaded: 503,
  version_not_ready: 503,
  too_stale: 503,
  mlflow_timeout: 504,
  artifact_timeout: 504,
  deadline_exceeded: 504,
  disk_full: 507,
} as const;

export type ErrorCode = keyof typeof HTTP_STATUS_BY_CODE;

export const ERROR_CODES: readonly ErrorCode[] = Object.keys(HTTP_STATUS_BY_CODE).filter(isErrorCode);

function isErrorCode(text: string): text is ErrorCode {
  return Object.hasOwn(HTTP_STATUS_BY_CODE, text);
}

export interface ErrorDetails {
  /** What the user can do about it; one sentence. */
  readonly hint?: string | undefined;
  readonly cause?: unknown;
  /** Seconds after which the upstream asked to be tried again. */
  readonly retryAfterS?: number | undefined;
  /** Whether it speaks against the server's health, where its code alone would say otherwise. */
  readonly serverFault?: boolean | undefined;
  /** The server says that it cannot answer anybody now, whatever is asked. */
  readonly unavailable?: boolean | undefined;
  /** It does not pass without somebody's help: no further try would end differently. */
  readonly permanent?: boolean | undefined;
}

/** The only error that crosses a room's border: a code of the closed list and words for the user. */
export class SidecarError extends Error {
  readonly code: ErrorCode;
  readonly hint: string | null;
  readonly retryAfterS: number | null;
  readonly serverFault: boolean | null;
  readonly unavailable: boolean;
  readonly permanent: boolean;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, { cause: details.cause });
    this.name = 'SidecarError';
    this.code = code;
    this.hint = details.hint ?? null;
    this.retryAfterS = details.retryAfterS ?? null;
    this.serverFault = details.serverFault ?? null;
    this.unavailable = details.unavailable ?? false;
    this.permanent = details.permanent ?? false;
  }
}

const NO_SPACE = new Set(['ENOSPC', 'EDQUOT']);
const FAILING_DISK = new Set(['EIO', 'ESTALE', 'ETIMEDOUT']);

/** Any thrown value as a `SidecarError`: a disk that takes nothing is `disk_full`; one that fails, and what nobody foresaw, is `internal`. */
export function toSidecarError(error: unknown): SidecarError {
  if (error instanceof SidecarError) return error;
  const message = error instanceof Error ? error.message : String(error);
  if (NO_SPACE.has(errnoOf(error))) {
    return new SidecarError('disk_full', `The cache's disk is full: ${message}`, {
      hint: 'Free space on the file system of SIDECAR_CACHE_DIR, or move the cache to a larger one.',
      cause: error,
    });
  }
  if (errnoOf(error) === 'EROFS') {
    return new SidecarError('disk_full', `The cache's disk is read-only: ${message}`, {
      hint: "Mount the file system of SIDECAR_CACHE_DIR writable. Where it was, look into the kernel's log: a disk that fails becomes read-only.",
      cause: error,
    });
  }
  if (FAILING_DISK.has(errnoOf(error))) {
    return new SidecarError('internal', `The cache's disk fails: ${message}`, {
      hint: "Look into the kernel's log and check the file system of SIDECAR_CACHE_DIR, or move the cache to another one.",
      cause: error,
    });
  }
  return new SidecarError('internal', message, { cause: error });
}

/** The operating system's name of an error (`ENOENT`), or an empty string. */
export function errnoOf(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';
}

const MISSING: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'model_not_found',
  'no_version_in_stage',
  'alias_not_found',
  'version_not_found',
  'run_not_found',
  'not_found',
]);

/** Whether MLflow said, definitely, that there is no such thing. */
export function isMissing(code: ErrorCode): boolean {
  return MISSING.has(code);
}
