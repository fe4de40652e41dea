import { SidecarError } from '../domain/errors.ts';
import type { ProxySource } from '../domain/events.ts';
import { inSlices, type Steps } from '../policy/slices.ts';
import { type Answer, answered, mlflowError } from './answer.ts';

/** One file of a version. */
export interface TreeFile {
  readonly path: string;
  /** In bytes; null where nobody knows yet. */
  readonly size: number | null;
}

/** What is in each directory, by name: a directory, or a file with its size. */
type Directories = ReadonlyMap<string, ReadonlyMap<string, number | null | 'directory'>>;

/** Made once for a list of files, and kept for as long as that is: whoever loads a model asks for each of its directories. */
const indices = new WeakMap<readonly TreeFile[], Promise<Directories>>();

/**
 * One level of a version's files, as MLflow lists it: names relative to the directory. A directory that is not there, and one that
 * is a file, list as empty.
 */
export async function listingAnswer(
  files: readonly TreeFile[],
  dir: string,
  source: ProxySource,
): Promise<Answer> {
  const index = indices.get(files) ?? inSlices(indexOf(files));
  indices.set(files, index);
  const entries = (await index).get(dir);
  const text = entries === undefined ? '{}' : await inSlices(textOf(entries));
  return { ...answered(text), source };
}

function* indexOf(files: readonly TreeFile[]): Steps<Directories> {
  const directories = new Map<string, Map<string, number | null | 'directory'>>();
  const at = (dir: string): Map<string, number | null | 'directory'> => {
    const known = directories.get(dir);
    if (known !== undefined) return known;
    const made = new Map();
    directories.set(dir, made);
    const [parent, name] = split(dir);
    if (dir !== '') at(parent).set(name, 'directory');
    return made;
  };
  for (const { path, size } of files) {
    const [dir, name] = split(path);
    at(dir).set(name, size);
    yield;
  }
  return directories;
}

function split(path: string): readonly [string, string] {
  const slash = path.lastIndexOf('/');
  return [path.slice(0, Math.max(slash, 0)), path.slice(slash + 1)];
}

function* textOf(entries: ReadonlyMap<string, number | null | 'directory'>): Steps<string> {
  let text = '{"files":[';
  let separator = '';
  for (const name of [...entries.keys()].toSorted()) {
    const size = entries.get(name) ?? null;
    const isDir = size === 'directory';
    const entry = { path: name, is_dir: isDir, ...(isDir || size === null ? {} : { file_size: size }) };
    text += separator + JSON.stringify(entry);
    separator = ',';
    yield;
  }
  return `${text}]}`;
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
