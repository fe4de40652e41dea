/**
 * What a request did to MLflow, as far as that is known: it was taken; it was not sent, or refused; or it was sent, and nobody
 * said what came of it.
 */
export type Effect = 'done' | 'none' | 'unknown';

/** Says that it was done, and that the result is elsewhere. */
const SEE_OTHER = 303;
/** 5xx that say of what is asked that the server cannot do it, whenever it is asked. */
const NOT_SUPPORTED: ReadonlySet<number> = new Set([501, 505]);

/** By the status of the answer. A server that fails may have failed after it had changed something, or speaks for one that has. */
export function effectOf(status: number): Effect {
  if (status >= 200 && status < 300) return 'done';
  if (status === SEE_OTHER) return 'unknown';
  return status >= 500 && !NOT_SUPPORTED.has(status) ? 'unknown' : 'none';
}

/** Methods that change nothing, whatever they are answered. */
const SAFE: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE']);
/** The last word of paths that are asked by POST and change nothing. */
const ASKING = /^(?:search|batchGet\w+|calculate-[\w-]+|metrics)$/;

/** Whether a request may change what MLflow answers to others. */
export function isWrite(method: string, path: string): boolean {
  return !SAFE.has(method) && !(method === 'POST' && ASKING.test(path.slice(path.lastIndexOf('/') + 1)));
}

const ARTIFACT = /^\/api\/2\.0\/mlflow-artifacts\/(?:artifacts|mpu\/complete)\/(.+)$/;

/**
 * The decoded path of the artifact that a write of the artifact server's changes; null where it changes none. Of an upload in parts
 * it is the last request that does.
 */
export function changedArtifact(path: string): readonly string[] | null {
  const [, encoded = null] = ARTIFACT.exec(path) ?? [];
  return encoded === null ? null : encoded.split('/').map(decodeURIComponent);
}
