import type { Subject } from '../policy/breaker-rules.ts';

/** What a breaker is told that a request is about. */
type Item = Subject['item'];

/** No database keeps numbers of this length: asking for one fails, whatever else is asked. */
const OVERLONG = /^\d{19,}$/;
/** The directory of a run or a logged model, below which its files are. */
const FILES = 'artifacts';

/**
 * Of a question: the model, version or run that it names. What a search is for, and how it is paged, tells no item from
 * another, and neither do numbers that no server takes.
 * @param path below `/api/2.0/mlflow/`
 */
export function questionItem(path: string, fields: Iterable<readonly [string, unknown]>): Item {
  if (path.endsWith('/search')) return path;
  const named = [...fields].filter(([, value]) => typeof value === 'string').map(([, value]) => value);
  if (named.some(value => OVERLONG.test(String(value)))) return `${path} with a number that is too long`;
  return [path, ...named].join(' ');
}

/** Of a file or a directory: the run or the logged model that it belongs to. */
export function artifactItem(segments: readonly string[]): Item {
  const at = segments.indexOf(FILES);
  return (at < 0 ? segments.slice(0, -1) : segments.slice(0, at + 1)).join('/');
}
