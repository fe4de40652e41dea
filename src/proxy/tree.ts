import { SidecarError } from '../domain/errors.ts';
import type { ProxySource } from '../domain/events.ts';
import { type Answer, answered, mlflowError } from './answer.ts';

/** One file of a version. */
export interface TreeFile {
  readonly path: string;
  /** In bytes; null where nobody knows yet. */
  readonly size: number | null;
}

/**
 * One level of a version's files, as MLflow lists it: names relative to the directory. A directory that is not there, and one that
 * is a file, list as empty.
 */
export function listingAnswer(files: readonly TreeFile[], dir: string, source: ProxySource): Answer {
  const prefix = dir === '' ? '' : `${dir}/`;
  const entries = new Map<string, object>();
  for (const { path, size } of files) {
    if (!path.startsWith(prefix)) continue;
    const rest = path.slice(prefix.length);
    const slash = rest.indexOf('/');
    if (slash >= 0) entries.set(rest.slice(0, slash), { path: rest.slice(0, slash), is_dir: true });
    else entries.set(rest, { path: rest, is_dir: false, ...(size === null ? {} : { file_size: size }) });
  }
  if (entries.size === 0) return { ...answered('{}'), source };
  const names = [...entries.keys()].toSorted((a, b) => (a < b ? -1 : 1));
  return { ...answered(JSON.stringify({ files: names.map(name => entries.get(name)) })), source };
}

/** As MLflow says it. */
export function noSuchArtifact(path: string, source: ProxySource): Answer {
  const text = mlflowError('RESOURCE_DOES_NOT_EXIST', `No such artifact: '${path}'`);
  return { ...answered(text, 404), source };
}

export function unknownAddress(): SidecarError {
  return new SidecarError('not_found', 'No version is known by this address any more.', {
    hint: 'Load the model again: it asks for the address anew.',
  });
}
