import type { Wanted } from '../upstream/json-picker.ts';

/** What tells an answer of MLflow's to one question from a page or an error that somebody else sends with 200. */
export interface AnswerShape {
  /** What must be there, or for a list may be left out. */
  readonly member: string;
  readonly is: 'object' | 'list' | 'text';
  /** The member that is read of an object, or of each object of a list; null where all are. */
  readonly of: string | null;
}

/** As many as MLflow gives in one page, with room. */
const MOST_ENTRIES = 50_000;
/** With which a list goes on; it may stand alone. */
const NEXT_PAGE = 'next_page_token';

const object = (member: string, of: string | null = null): AnswerShape => ({ member, is: 'object', of });
const list = (member: string, of: string | null = null): AnswerShape => ({ member, is: 'list', of });

const SHAPES: ReadonlyMap<string, AnswerShape> = new Map([
  ['registered-models/get', object('registered_model')],
  ['registered-models/alias', object('model_version')],
  ['registered-models/search', list('registered_models')],
  ['registered-models/get-latest-versions', list('model_versions')],
  ['model-versions/get', object('model_version')],
  ['model-versions/search', list('model_versions')],
  ['model-versions/get-download-uri', { member: 'artifact_uri', is: 'text', of: null }],
  // With metric curves, which nobody here needs: 8 MB for one model.
  ['logged-models/search', list('models', 'info')],
  ['runs/get', object('run', 'info')],
  ['runs/search', list('runs')],
  ['experiments/search', list('experiments')],
  ['artifacts', list('files')],
]);
const LOGGED_MODEL = object('model', 'info');

/** @param path of the question; null where any object is an answer */
export function shapeOf(path: string): AnswerShape | null {
  return SHAPES.get(path) ?? (path.startsWith('logged-models/') ? LOGGED_MODEL : null);
}

/** What is read of a long answer. */
export function wantedOf(shape: AnswerShape | null): Wanted {
  if (shape === null) return 'all';
  const part: Wanted = shape.of === null ? 'all' : { members: { [shape.of]: 'all' } };
  const wanted: Wanted = shape.is === 'list' ? { elements: part, most: MOST_ENTRIES } : part;
  return { members: { [shape.member]: wanted, [NEXT_PAGE]: 'all' } };
}

/**
 * What is wrong with a success, in words; null where it is one that MLflow gives. It leaves out a list that is empty, and then
 * there is nothing else either.
 */
export function shapeFault(shape: AnswerShape | null, body: object): string | null {
  if (shape === null) return null;
  const { member, is, of } = shape;
  const found = memberOf(body, member);
  if (is === 'text') return typeof found === 'string' ? null : `${member}: no text`;
  if (is === 'object')
    return isObject(found) && hasPart(found, of) ? null : `${named(member, of)}: no object`;
  if ((found ?? null) === null && hasOnly(body, [member, NEXT_PAGE])) return null;
  if (!Array.isArray(found)) return `${member}: no list`;
  return found.every(one => isObject(one) && hasPart(one, of))
    ? null
    : `${named(member, of)}: not an object each`;
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function hasPart(value: object, of: string | null): boolean {
  return of === null || isObject(memberOf(value, of));
}

function hasOnly(value: object, names: readonly string[]): boolean {
  return Object.keys(value).every(name => names.includes(name));
}

function memberOf(value: object, member: string): unknown {
  return Object.entries(value).find(([name]) => name === member)?.[1];
}

function named(member: string, of: string | null): string {
  return of === null ? member : `${member}.${of}`;
}
