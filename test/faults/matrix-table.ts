import type { ErrorCode } from '../../src/domain/errors.ts';
import { IS_STRICT } from '../support/limits.ts';
import type { Fault, RouteClass } from '../support/scripted-mlflow.ts';

/** What is done to a sidecar: by its MLflow, by the name server, or by the disk under its cache. */
type Evil =
  | Exclude<Fault, { kind: 'certificate' }>
  | { readonly kind: 'certificate'; readonly which: 'untrusted' | 'otherHost' }
  | { readonly kind: 'dns'; readonly how: 'fail' | 'hang' }
  | { readonly kind: 'disk' };

/** How a fetch that meets it ends, once nobody limits it. Times in seconds. */
interface End {
  readonly code: ErrorCode;
  /** 3 for what may pass, 1 for what will not. */
  readonly tries: 1 | 3;
  /** Of one try. */
  readonly tryS: number;
  /** Between the tries, all together. */
  readonly waitS: readonly [least: number, most: number];
  /** It ends by itself only after minutes: only the long form waits for it. */
  readonly endless?: true;
}

export interface Trouble {
  readonly name: string;
  readonly evil: Evil;
  readonly ends: Readonly<Partial<Record<RouteClass, End>>>;
  /** Callers of the registry leave the time that it has to the sidecar. */
  readonly isByDefault?: true;
}

/** One square of the matrix. */
export interface Cell extends Omit<Trouble, 'ends'> {
  readonly routeClass: RouteClass;
  readonly end: End;
}

/** Between three tries: uniform(2, 4) and uniform(2, 8). */
const BACKOFF_S = [4, 12] as const;
/** `Retry-After` is honoured up to 10 s, and no wait of ours is longer. */
const OBEDIENCE_S = [20, 20] as const;
/** The window of the progress floor, and the longest that a listing may take. */
const PATIENCE_S = 30;
const FIRST_BYTE_S = 120;
const CONNECT_S = 3;
/** Names are looked up in less than that. */
const LOOKUP_S = 2.5;
/** Where the registry is silent it is asked with this limit, so that three tries end within this suite's patience. */
export const TRY_S = 1;

function tried(code: ErrorCode, tryS = 0, waitS: End['waitS'] = BACKOFF_S): End {
  return { code, tries: 3, tryS, waitS };
}

function once(code: ErrorCode, tryS = 0): End {
  return { code, tries: 1, tryS, waitS: [0, 0] };
}

/** The same wherever it happens. */
function everywhere(end: End): Trouble['ends'] {
  return { registry: end, listing: end, file: end };
}

const UNREACHABLE = tried('mlflow_unreachable');
const ERROR = tried('mlflow_error');
const CORRUPT = tried('artifact_corrupt');
const NOWHERE = 'http://127.0.0.1:9';

const SLOW = {
  registry: tried('mlflow_timeout', TRY_S),
  listing: once('artifact_timeout', PATIENCE_S),
  file: once('artifact_timeout', PATIENCE_S),
};
const NEVER: Trouble['ends'] = {
  ...SLOW,
  file: { ...once('artifact_timeout', FIRST_BYTE_S), endless: true },
};
function noConnection(tryS: number): Trouble['ends'] {
  return {
    registry: tried('mlflow_timeout', tryS),
    listing: tried('mlflow_timeout', tryS),
    file: once('artifact_timeout', tryS),
  };
}

export const TROUBLES: readonly Trouble[] = [
  { name: 'refused', evil: { kind: 'refused' }, ends: everywhere(UNREACHABLE) },
  { name: 'silent', evil: { kind: 'silent' }, ends: NEVER },
  {
    name: 'silent, all defaults',
    evil: { kind: 'silent' },
    ends: { registry: tried('mlflow_timeout', 5) },
    isByDefault: true,
  },
  { name: 'reset', evil: { kind: 'reset' }, ends: everywhere(UNREACHABLE) },
  { name: 'headers at one byte a second', evil: { kind: 'trickle', part: 'headers' }, ends: NEVER },
  { name: 'body at one byte a second', evil: { kind: 'trickle', part: 'body' }, ends: SLOW },
  { name: 'HTTP 500', evil: { kind: 'status', status: 500 }, ends: everywhere(ERROR) },
  {
    name: 'HTTP 503',
    evil: { kind: 'status', status: 503, body: 'down for maintenance' },
    ends: everywhere(ERROR),
  },
  {
    name: 'HTTP 503 with Retry-After: 3600',
    evil: { kind: 'status', status: 503, headers: { 'retry-after': '3600' } },
    ends: everywhere(tried('mlflow_error', 0, OBEDIENCE_S)),
  },
  { name: 'HTTP 429', evil: { kind: 'status', status: 429 }, ends: everywhere(ERROR) },
  { name: 'HTTP 404', evil: { kind: 'status', status: 404 }, ends: { file: once('artifact_missing') } },
  { name: 'HTML with 200', evil: { kind: 'html' }, ends: { registry: ERROR, listing: ERROR, file: CORRUPT } },
  {
    name: 'redirect to another origin',
    evil: { kind: 'redirect', origin: NOWHERE },
    ends: { registry: once('mlflow_error'), listing: once('mlflow_error'), file: once('unsafe_path') },
  },
  {
    name: 'broken JSON',
    evil: { kind: 'broken_json' },
    ends: { registry: ERROR, listing: ERROR, file: CORRUPT },
  },
  {
    name: '10 MB of JSON',
    evil: { kind: 'huge' },
    // In an answer that is JSON they are passed over.
    ends: { file: CORRUPT },
  },
  { name: 'stalled', evil: { kind: 'stall' }, ends: SLOW },
  {
    name: 'cut, with Content-Length',
    evil: { kind: 'cut', contentLength: true },
    ends: { registry: UNREACHABLE, listing: UNREACHABLE, file: CORRUPT },
  },
  {
    name: 'cut, without Content-Length',
    evil: { kind: 'cut', contentLength: false },
    ends: { registry: ERROR, listing: ERROR, file: CORRUPT },
  },
  {
    name: 'longer than listed',
    evil: { kind: 'longer' },
    ends: { registry: ERROR, listing: ERROR, file: CORRUPT },
  },
  {
    name: 'gzip bomb',
    evil: { kind: 'gzip_bomb' },
    ends: { registry: ERROR, listing: ERROR, file: CORRUPT },
  },
  { name: 'DNS fails', evil: { kind: 'dns', how: 'fail' }, ends: everywhere(UNREACHABLE) },
  { name: 'DNS hangs', evil: { kind: 'dns', how: 'hang' }, ends: noConnection(LOOKUP_S), isByDefault: true },
  {
    name: 'TLS handshake stalls',
    evil: { kind: 'handshake_stall' },
    ends: noConnection(CONNECT_S),
    isByDefault: true,
  },
  {
    name: 'certificate of nobody',
    evil: { kind: 'certificate', which: 'untrusted' },
    ends: everywhere(once('mlflow_unreachable')),
  },
  {
    name: 'certificate for another host',
    evil: { kind: 'certificate', which: 'otherHost' },
    ends: everywhere(once('mlflow_unreachable')),
  },
  {
    name: 'file system hangs',
    evil: { kind: 'disk' },
    ends: everywhere({ ...once('deadline_exceeded', Number.POSITIVE_INFINITY), endless: true }),
  },
];

const OUTAGES: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'mlflow_unreachable',
  'mlflow_error',
  'mlflow_timeout',
  'artifact_timeout',
]);

/** Whether a call with nothing to give waits for it to pass, since the server answered before. */
export function isOutage({ end }: Cell): boolean {
  return OUTAGES.has(end.code) && (end.tries > 1 || end.code === 'artifact_timeout');
}

export const ROUTE_CLASSES: readonly RouteClass[] = ['registry', 'listing', 'file'];

export function cellsOf(routeClass: RouteClass): readonly Cell[] {
  return TROUBLES.flatMap(({ ends, ...trouble }) => {
    const end = ends[routeClass];
    return end === undefined ? [] : [{ ...trouble, routeClass, end }];
  });
}

/**
 * The squares that a run meets: all of them in `npm run chaos`; in `npm test` each trouble at one of its places, in turn.
 * @param turn where the first trouble is met
 */
export function squaresOf(routeClass: RouteClass, turn: number): readonly Cell[] {
  const cells = cellsOf(routeClass);
  return IS_STRICT ? cells : cells.filter(({ name }) => placeOf(name, turn) === routeClass);
}

function placeOf(name: string, turn: number): RouteClass | undefined {
  const at = TROUBLES.findIndex(trouble => trouble.name === name);
  const places = ROUTE_CLASSES.filter(routeClass => TROUBLES[at]?.ends[routeClass] !== undefined);
  return places[(at + turn) % places.length];
}
