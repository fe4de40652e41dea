import { SidecarError } from '../domain/errors.ts';
import type { Question } from '../registry/client.ts';

type Server = 'registry' | 'tracking' | 'artifacts';
type Method = 'GET' | 'POST';

interface ReadRoute {
  readonly server: Server;
  readonly methods: readonly Method[];
  readonly below?: Question['below'];
  readonly sinceMlflow3?: true;
  readonly passes: Question['passes'];
}

/** What goes on in other words is short. */
const REWORDED_BYTES = 16 * 1024;

/** What loading a model asks, and the searches. `*` is a segment that the caller names. */
const READS = {
  'registered-models/get': { server: 'registry', methods: ['GET'], passes: 'read' },
  'registered-models/alias': { server: 'registry', methods: ['GET'], passes: 'read' },
  'registered-models/search': { server: 'registry', methods: ['GET'], passes: 'unread' },
  'registered-models/get-latest-versions': { server: 'registry', methods: ['GET', 'POST'], passes: 'read' },
  'model-versions/get': { server: 'registry', methods: ['GET'], passes: 'read' },
  'model-versions/search': { server: 'registry', methods: ['GET'], passes: 'unread' },
  'model-versions/get-download-uri': { server: 'registry', methods: ['GET'], passes: undefined },
  'logged-models/*': { server: 'tracking', methods: ['GET'], sinceMlflow3: true, passes: 'read' },
  'logged-models/search': { server: 'tracking', methods: ['POST'], sinceMlflow3: true, passes: 'read' },
  'runs/get': { server: 'tracking', methods: ['GET'], passes: 'read' },
  'runs/search': { server: 'tracking', methods: ['POST'], passes: 'unread' },
  'experiments/search': { server: 'tracking', methods: ['GET', 'POST'], passes: 'unread' },
  'server-info': {
    server: 'tracking',
    methods: ['GET'],
    below: '3.0/mlflow',
    sinceMlflow3: true,
    passes: undefined,
  },
  artifacts: { server: 'artifacts', methods: ['GET'], below: '2.0/mlflow-artifacts', passes: 'read' },
} as const satisfies Record<string, ReadRoute>;

type Route = keyof typeof READS;
const ROUTES: ReadonlyMap<string, ReadRoute> = new Map(Object.entries(READS));
/** Fields that are lists, of which a query holds each entry. */
const LISTS: ReadonlySet<string> = new Set(['stages', 'order_by']);
/** A filter of a search is a text; nothing that MLflow reads is nested deeper. */
const DEEPEST = 8;

/** A read that is known, before its query and body are looked at. */
export interface Found {
  readonly route: Route;
  readonly method: Method;
  /** Rebuilt from decoded segments. */
  readonly path: string;
  /** What stands for `*`. */
  readonly id: string | null;
}

/** A question that MLflow may be asked as often as one likes. */
export interface Read {
  readonly route: Route;
  readonly server: Server;
  readonly question: Question;
  /** What it names, of its query or its body. */
  readonly fields: ReadonlyMap<string, unknown>;
  /** What tells it from every other read; see `keyOf`. */
  readonly key: string;
}

/**
 * @param method of which HEAD asks what GET does
 * @param segments decoded, below `/api/<below>/`
 */
export function findRead(
  method: string,
  below: NonNullable<Question['below']> | '2.0/mlflow',
  segments: readonly string[],
): Found | null {
  const [first = '', second = ''] = segments;
  const exact = segments.join('/');
  const [route, id] = isRoute(exact)
    ? [exact, null]
    : first === 'logged-models' && segments.length === 2
      ? (['logged-models/*', second] as const)
      : [null, null];
  if (route === null) return null;
  const known: ReadRoute = READS[route];
  const asked = known.methods.find(one => one === (method === 'HEAD' ? 'GET' : method));
  if (asked === undefined || (known.below ?? '2.0/mlflow') !== below) return null;
  const path = id === null ? route : `logged-models/${encodeURIComponent(id)}`;
  return { route, method: asked, path, id };
}

function isRoute(text: string): text is Route {
  return !text.includes('*') && ROUTES.has(text);
}

/**
 * @param body of a POST: a JSON object
 * @throws SidecarError `invalid_request` where nobody could tell which of two values is meant, or the body is nested without end
 */
export function readOf(
  { route, method, path, id }: Found,
  query: URLSearchParams,
  body: Readonly<Record<string, unknown>> | null,
): Read {
  const { server, below, sinceMlflow3, passes }: ReadRoute = READS[route];
  if (method === 'POST') assertShallow(body);
  else assertPlain(query);
  const asked = method === 'POST' ? { body: body ?? {} } : { query: pairsOf(route, query) };
  const fields = new Map<string, unknown>(method === 'POST' ? Object.entries(body ?? {}) : query);
  if (id !== null) fields.set('model_id', id);
  const question: Question = {
    path,
    ...(below === undefined ? {} : { below }),
    ...(sinceMlflow3 === undefined ? {} : { sinceMlflow3 }),
    ...(passes === undefined ? { maxBytes: REWORDED_BYTES } : { passes }),
    ...asked,
  };
  return { route, server, question, fields, key: keyOf(question) };
}

/** MLflow's client names a run twice, and by its old name first. */
function pairsOf(route: Route, query: URLSearchParams): readonly (readonly [string, string])[] {
  const isDoubled = route === 'runs/get' && query.get('run_uuid') === query.get('run_id');
  return [...query].filter(([key]) => !isDoubled || key !== 'run_uuid');
}

/** The listing of a directory of MLflow's artifact server. */
export function listingOf(path: string): Read {
  const found: Found = { route: 'artifacts', method: 'GET', path: 'artifacts', id: null };
  return readOf(found, new URLSearchParams(path === '' ? [] : [['path', path]]), null);
}

/** The question what a version is. */
export function versionRead(name: string, version: string): Read {
  const route = 'model-versions/get';
  const found: Found = { route, method: 'GET', path: route, id: null };
  return readOf(found, new URLSearchParams({ name, version }), null);
}

/** Equal for equal questions, in whatever order their fields come. */
export function keyOf({ path, below, query, body }: Question): string {
  const named = Array.isArray(query) ? query : Object.entries(query ?? {});
  const pairs = named.toSorted(([a], [b]) => (a < b ? -1 : Number(a > b)));
  return JSON.stringify([below ?? '2.0/mlflow', path, pairs, sorted(body ?? null)]);
}

/** What is allowed is looked up by one value, and MLflow would take another. */
function assertPlain(query: URLSearchParams): void {
  const keys = [...query.keys()].filter(key => !LISTS.has(key));
  const twice = keys.find((key, at) => keys.indexOf(key) !== at);
  if (twice === undefined) return;
  const shown = JSON.stringify(twice.slice(0, 100));
  throw new SidecarError('invalid_request', `The query names ${shown} more than once.`);
}

function assertShallow(body: unknown): void {
  let level: readonly unknown[] = [body];
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > DEEPEST) throw new SidecarError('invalid_request', 'The body is nested too deeply.');
    level = level.flatMap(value => (typeof value === 'object' && value !== null ? Object.values(value) : []));
  }
}

/** An object as one list, so that it differs from every list. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return { entries: entries.map(([key, one]) => [key, sorted(one)]) };
}

/** A field that should be a text; null where it is not there, or something else. */
export function textOf({ fields }: Pick<Read, 'fields'>, name: string): string | null {
  const value = fields.get(name);
  return typeof value === 'string' && value !== '' ? value : null;
}

/** Of `get-latest-versions`; none where it asks for all. */
export function stagesOf({ fields, question }: Pick<Read, 'fields' | 'question'>): readonly string[] {
  const inQuery = Array.isArray(question.query) ? question.query : [];
  const asked = fields.get('stages');
  const stages = Array.isArray(asked)
    ? asked
    : inQuery.flatMap(([key, one]) => (key === 'stages' ? [one] : []));
  return stages.filter(stage => typeof stage === 'string');
}
