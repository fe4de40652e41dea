import { createHash } from 'node:crypto';
import { ERROR_CODES, type ErrorCode } from '../../src/domain/errors.ts';
import { TOO_LATE, within } from '../../src/policy/abort.ts';
import { LoadFailed, loadModel } from '../support/mlflow-load.ts';
import type { PythonDownloads } from '../support/python-downloads.ts';
import type { Files } from '../support/scripted-mlflow.ts';

/** What a client had of one load. */
export interface Load {
  readonly ms: number;
  /** The sha256 of every file, by its path; null where the load failed. */
  readonly files: Readonly<Record<string, string>> | null;
  /** What the client says of a failure; empty where there was none. */
  readonly error: string;
  /** Of the answer that ended a load; null where none did, or the client does not say. */
  readonly status: number | null;
}

export type Client = (base: string, uri: string) => Promise<Load>;

/** Longer than anything may take. */
const HANGS_MS = 90_000;

/** The calls of MLflow's client, without Python. */
export const typescript: Client = limited(async (base, uri) => {
  const startedAt = performance.now();
  const ms = () => performance.now() - startedAt;
  try {
    const { files } = await loadModel(base, uri);
    return { ms: ms(), files: digestsOf(Object.fromEntries(files)), error: '', status: null };
  } catch (error) {
    if (!(error instanceof LoadFailed)) throw error;
    return { ms: ms(), files: null, error: error.message, status: error.status };
  }
});

/** MLflow's client itself. */
export function python(downloads: PythonDownloads): Client {
  return limited(async (base, uri) => {
    const { ms, files, error } = await downloads.download(base, uri);
    return { ms, files, error: error ?? '', status: null };
  });
}

function limited(load: Client): Client {
  return async (base, uri) => {
    const loaded = await within(HANGS_MS, load(base, uri));
    return loaded === TOO_LATE ? { ms: HANGS_MS, files: null, error: 'It hangs.', status: null } : loaded;
  };
}

/** The sha256 of every file, by its path. */
export function digestsOf(files: Files): Readonly<Record<string, string>> {
  const digests = Object.entries(files).map(([path, content]) => [
    path,
    createHash('sha256').update(content).digest('hex'),
  ]);
  return Object.fromEntries(digests);
}

/** The code in a message of the sidecar's; null where the client was told none of ours. */
export function codeIn({ error }: Load): ErrorCode | null {
  const told = error.slice(error.indexOf('mlflow-sidecar: ')).matchAll(/\((\w+)\)/g);
  const words = [...told].map(([, word]) => word);
  return ERROR_CODES.find(code => words.includes(code)) ?? null;
}
