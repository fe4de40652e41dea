import { SidecarError } from '../domain/errors.ts';

/** What the file systems that we know allow for one name. */
const MAX_NAME_BYTES = 255;
const MAX_DEPTH = 64;
/** Leaves as much of Linux' 4,096 for the cache directory. */
const MAX_PATH_BYTES = 2_048;
const FORBIDDEN = /[/\\\p{Cc}]/u;

/**
 * The path of `name` in `dir`, checked: one name that stays in its directory on every file system.
 * @throws SidecarError `unsafe_path`
 */
export function childPath(dir: string, name: string): string {
  const fault = faultOf(name);
  if (fault !== null) throw unsafe(name, fault);
  const path = dir === '' ? name : `${dir}/${name}`;
  if (path.split('/').length > MAX_DEPTH) throw unsafe(path, `is more than ${MAX_DEPTH} directories deep`);
  if (Buffer.byteLength(path) > MAX_PATH_BYTES) throw unsafe(path, `is longer than ${MAX_PATH_BYTES} bytes`);
  return path;
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
