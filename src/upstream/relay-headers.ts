import type { IncomingHttpHeaders } from 'node:http';

/** Of one connection (RFC 9110, 7.6.1, and what was used before it), besides `proxy-*` and what `Connection` names. */
const HOP_BY_HOP: ReadonlySet<string> = new Set([
  'connection',
  'http2-settings',
  'keep-alive',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

/** What says who the caller is, and by what way it came. Its credential is for whoever relays to add. */
const OF_THE_CALLER: ReadonlySet<string> = new Set([
  'accept-encoding',
  'authorization',
  'content-length',
  'cookie',
  'cookie2',
  'expect',
  'forwarded',
  'host',
  'origin',
  'referer',
  'set-cookie',
  'via',
  'x-real-ip',
]);
const OF_THE_CALLER_PREFIXES = ['x-airflow-', 'x-forwarded-'];

/**
 * What says who MLflow is, and by what way it came. `Retry-After` and `Location` would send a client away, and the first has it
 * wait for minutes: urllib3 heeds it with a 413, too.
 */
const OF_THE_SERVER: ReadonlySet<string> = new Set([
  'alt-svc',
  'date',
  'location',
  'retry-after',
  'server',
  'set-cookie',
  'set-cookie2',
  'via',
  'x-request-id',
]);
/** Ours to say. */
const OF_THE_SERVER_PREFIXES = ['x-sidecar-'];

type Headers = Readonly<Record<string, string | string[] | undefined>>;

/** The caller's headers that MLflow gets; how long the body is, and on whose behalf it comes, is not among them. */
export function requestHeaders(given: IncomingHttpHeaders): Record<string, string> {
  const passing = endToEnd(given, OF_THE_CALLER, OF_THE_CALLER_PREFIXES);
  return Object.fromEntries(passing.map(([name, value]) => [name, [value].flat().join(', ')] as const));
}

/** MLflow's headers that the caller gets. */
export function answerHeaders(given: Headers): Record<string, string | string[]> {
  return Object.fromEntries(endToEnd(given, OF_THE_SERVER, OF_THE_SERVER_PREFIXES));
}

function endToEnd(
  given: Headers,
  withheld: ReadonlySet<string>,
  prefixes: readonly string[],
): [string, string | string[]][] {
  const named = namedByConnection(given['connection']);
  const passes = (name: string) =>
    !HOP_BY_HOP.has(name) &&
    !withheld.has(name) &&
    !['proxy-', ...prefixes].some(prefix => name.startsWith(prefix)) &&
    !named.has(name);
  return Object.entries(given).flatMap(([name, value]): [string, string | string[]][] =>
    value !== undefined && passes(name.toLowerCase()) ? [[name, value]] : [],
  );
}

/** A length cannot be named away: without it nobody could tell a cut body from a whole one. */
function namedByConnection(header: string | string[] | undefined): ReadonlySet<string> {
  const names = [header ?? []].flat().join(',').toLowerCase().split(',');
  return new Set(names.map(name => name.trim()).filter(name => name !== 'content-length'));
}
