import { SidecarError } from '../domain/errors.ts';

/** What the file systems that we know allow for one name. */
const MAX_NAME_BYTES = 255;
const MAX_DEPTH = 64;
/** Leaves as much of Linux' 4,096 for the cache directory. */
const MAX_PATH_BYTES = 2_048;
/** Of all paths of a version: 335 bytes for each of 50,000, which are held in memory, kept in a record and hashed. */
export const MAX_PATHS_BYTES = 16 * 1024 * 1024;
const FORBIDDEN = /[/\\\p{Cc}]/u;

/** A directory that is listed, or is to be. */
export interface Place {
  readonly path: string;
  /** How many names its path has. */
  readonly depth: number;
  /** Of its path. */
  readonly bytes: number;
}

export const ROOT: Place = { path: '', depth: 0, bytes: 0 };

/**
 * Where `name` in `dir` is, checked: one name that stays in its directory on every file system. It costs no more the deeper it is.
 * @throws SidecarError `unsafe_path`
 */
export function childOf(dir: Place, name: string): Place {
  const fault = faultOf(name);
  if (fault !== null) throw unsafe(name, fault);
  const path = dir.depth === 0 ? name : `${dir.path}/${name}`;
  const depth = dir.depth + 1;
  const bytes = dir.bytes + (dir.depth === 0 ? 0 : 1) + Buffer.byteLength(name);
  if (depth > MAX_DEPTH) throw unsafe(path, `is more than ${MAX_DEPTH} directories deep`);
  if (bytes > MAX_PATH_BYTES) throw unsafe(path, `is longer than ${MAX_PATH_BYTES} bytes`);
  return { path, depth, bytes };
}

function faultOf(name: string): string | null {
  if (name === '' || name === '.' || name === '..') return 'is no file name';
  if (FORBIDDEN.test(name)) return 'holds a separator or a control character';
  if (Buffer.byteLength(name) > MAX_NAME_BYTES) return `is longer than ${MAX_NAME_BYTES} bytes`;
  return null;
}

export function unsafe(path: string, fault: string): SidecarError {
  const shown = JSON.stringify(path.slice(0, 100));
  return new SidecarError('unsafe_path', `The artifact path ${shown} ${fault}.`, {
    hint: 'Nothing of this version was published. Log the model again without that path.',
  });
}
