import { posix } from 'node:path';
import { unescape as unquote } from 'node:querystring';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { artifactSegments, isMlflows, type Target, targetOf } from '../../src/http/mlflow/target.ts';
import { placesOf } from '../../src/proxy/roots.ts';
import { BESIDE_THE_API, OTHER_ROUTES, READS } from '../support/mlflow-routes.ts';

const ARTIFACTS = '/api/2.0/mlflow-artifacts/artifacts';

function split(route: string): readonly [string, string] {
  const [method = '', path = ''] = route.split(' ');
  return [method, path];
}

function kindOf(method: string, path: string): Target['kind'] | null {
  return targetOf(method, path)?.kind ?? null;
}

describe('of what MLflow answers', () => {
  test.each(READS)('%s is a read', route => {
    const [method, path] = split(route);
    const kind = path === ARTIFACTS ? 'listing' : path.startsWith(ARTIFACTS) ? 'file' : 'read';
    expect(kindOf(method, path)).toBe(kind);
    if (method === 'GET') expect(targetOf('HEAD', path)).toEqual(targetOf('GET', path));
    for (const other of ['PUT', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE', 'get', 'PROPFIND'])
      expect(kindOf(other, path)).toBe('other');
  });

  test.each(OTHER_ROUTES)('%s is none', route => {
    const [method, path] = split(route);
    const isPresigned = /\/presigned/.test(path);
    const server = /\/(registered-models|model-versions|webhooks)(\/|$)/.test(path) ? 'registry' : 'tracking';
    const target = isPresigned ? { kind: 'presigned' } : { kind: 'other', server, path };
    expect(targetOf(method, path)).toEqual(target);
  });

  test.each(BESIDE_THE_API)('%s is none of its API', route => {
    expect(kindOf(...split(route))).toBe('foreign');
  });

  test('its health and version are asked by GET and HEAD, and have nothing below them', () => {
    for (const path of ['health', 'version'] as const) {
      for (const method of ['GET', 'HEAD'])
        expect(targetOf(method, `/${path}`)).toEqual({ kind: 'plain', path });
      expect(kindOf('POST', `/${path}`)).toBe('foreign');
      expect(kindOf('GET', `/${path}/`)).toBe('foreign');
    }
  });

  test.each([
    '/',
    '',
    '/v1/reload',
    '/metrics',
    '/healthz',
    '/API/2.0/mlflow/runs/get',
    '/apis',
    '/%',
    '/%ff',
  ])('nothing is at %s', path => {
    expect(targetOf('GET', path)).toBeNull();
    expect(isMlflows(path)).toBe(false);
  });

  test.each([
    '/api',
    '/api/',
    '/api/4.0/mlflow/runs/get',
    '/api/2.0',
    '/%61pi/2.0/mlflow/runs/get',
    '/api/../v1',
  ])('%s is its to refuse', path => {
    expect(isMlflows(path)).toBe(true);
  });
});

describe('a read is one in whatever encoding', () => {
  test.each([
    ['/api/2.0/mlflow/registered-models/get', 'registered-models/get'],
    ['/%61pi/2%2e0/mlflow/%72uns/get', 'runs/get'],
    ['/api/2.0/mlflow/logged-models/m-1', 'logged-models/m-1'],
    ['/api/2.0/mlflow/logged-models/a%20b', 'logged-models/a%20b'],
  ])('%s', (path, rebuilt) => {
    const target = targetOf('GET', path);
    expect(target?.kind === 'read' && target.found.path).toBe(rebuilt);
  });

  test('of a file the segments are decoded', () => {
    expect(targetOf('GET', `${ARTIFACTS}/0/m-1/data/100%25%20%C3%A9.txt%2520%252520`)).toEqual({
      kind: 'file',
      segments: ['0', 'm-1', 'data', '100% é.txt%20%2520'],
    });
  });

  test.each([
    '/api/2.0/mlflow/registered-models%2fget',
    '/api/2.0/mlflow/registered%252dmodels/get',
    '/api/2.0/mlflow/Registered-Models/get',
    '/api/2.0/mlflow/logged-models/a/b',
    '/api/3.0/mlflow/registered-models/get',
    '/api/2.0/mlflow/server-info',
    '/api/2.0/mlflow/artifacts',
    '/api/2.0/mlflow/registered-models/get;x=1',
    '/api/2.0/MLflow/runs/get',
  ])('and %s is none', path => {
    expect(['other', 'malformed']).toContain(kindOf('GET', path));
  });
});

const NO_NAMES = [
  ...[
    '..',
    '.',
    '',
    '%2e%2e',
    '%2E.',
    '%252e%252e',
    '%25252e%25252e',
    '..%2f',
    '%2e%2e%2f%2e%2e',
    '%2f',
    '%5c',
    '..%5cx',
  ],
  ...[
    '\\',
    '..\\',
    '%00',
    'x%00',
    'x%0a',
    '%0d%0ax',
    'x%7f',
    'x%c2%80',
    '..;',
    '..;x',
    ';',
    '.%3b',
    '...',
    '.. ',
    '%20',
    '..%20',
  ],
  ...[
    '%c0%ae%c0%ae',
    '%c0%af',
    '%25c0%25ae',
    '%e0%80%ae',
    '%25e0%2580%25ae',
    '%25f0%2580%2580%25ae',
    '%ff',
    '%zz',
    '%',
    'a%2',
  ],
  // What one server cannot decode another leaves as it is, and decodes the rest.
  ...['%25zz%252e%252e%252f', '%25ff%252f..%252f', '#', 'x#y', 'é', '\u00c0\u00ae'],
];

describe('a segment that may lead elsewhere', () => {
  test.each(NO_NAMES)('%j is refused wherever it stands', segment => {
    for (const path of [
      `${ARTIFACTS}/0/m-1/${segment}/MLmodel`,
      `${ARTIFACTS}/${segment}`,
      `${ARTIFACTS}/${segment}/${segment}/mlflow/runs/delete`,
      `/api/2.0/mlflow/${segment}/runs/get`,
      `/api/${segment}/2.0/mlflow/runs/get`,
      `/api/2.0/mlflow/logged-models/${segment}`,
    ])
      for (const method of ['GET', 'DELETE']) expect(kindOf(method, path)).toBe('malformed');
  });

  test.each(['0/m-1/../x', '..', '/0', '0//m', '0/%2e%2e', '0/..%2f', '0/a\\b', '0/a\0', '0/.;', '//'])(
    'a directory %j is none',
    path => {
      expect(artifactSegments(path)).toBeNull();
    },
  );

  test.each([
    ['', []],
    ['/', []],
    ['0/m-1/artifacts', ['0', 'm-1', 'artifacts']],
    ['0/m-1/artifacts/', ['0', 'm-1', 'artifacts']],
    ['0/a b/.hidden/x..y/100%', ['0', 'a b', '.hidden', 'x..y', '100%']],
  ])('a directory %j is one', (path, segments) => {
    expect(artifactSegments(path)).toEqual(segments);
  });
});

/** What a request to MLflow would be for, in a table that is written anew. */
const READ_TARGETS = new Set(
  READS.filter(route => !route.includes('-artifacts/')).map(route => route.replace(/x$/, '')),
);
const LOGGED_MODEL = 'GET /api/2.0/mlflow/logged-models/';
const MANIFEST = new Set(['MLmodel', 'model.pkl', 'data/weights.bin', 'data/100%.txt', 'a b/é']);
const ROOT = 'mlflow-artifacts:/0/m-1';

/** Segments that nobody who decodes them once more, or thrice, takes for other ones. */
function isConfined(path: string): boolean {
  let text = path;
  for (let times = 0; times < 5; times++) {
    if (posix.normalize(text) !== text || /[\\\p{Cc}]/u.test(text) || /\/[. ]*(;|\/|$)/.test(text))
      return false;
    text = unquote(text);
  }
  return true;
}

function isRightFor(method: string, path: string, target: Target): boolean {
  const meant = () => decodeURIComponent(path);
  switch (target.kind) {
    case 'read': {
      const sent = meant();
      const asked = `${target.found.method} ${sent}`;
      const isOfModel = asked.startsWith(LOGGED_MODEL) && `${LOGGED_MODEL}${target.found.id}` === asked;
      const isKnown = READ_TARGETS.has(asked) || isOfModel;
      return isKnown && sent.endsWith(`/${decodeURIComponent(target.found.path)}`) && isConfined(sent);
    }
    case 'file': {
      const sent = `${ARTIFACTS}/${target.segments.join('/')}`;
      return (
        (method === 'GET' || method === 'HEAD') &&
        sent === meant() &&
        isConfined(sent) &&
        isInCache(target.segments)
      );
    }
    case 'listing':
      return (method === 'GET' || method === 'HEAD') && meant() === ARTIFACTS;
    case 'other': {
      const { pathname } = new URL(target.path, 'http://mlflow');
      return pathname === target.path && decodeURIComponent(pathname) === meant() && isConfined(pathname);
    }
    case 'plain':
      return meant() === `/${target.path}`;
    case 'presigned':
    case 'foreign':
    case 'malformed':
      return true;
  }
}

/** Of a snapshot a path selects one of its files exactly, or nothing. */
function isInCache(segments: readonly string[]): boolean {
  return placesOf(segments).every(
    ({ root, path }) => root[0] !== ROOT || !MANIFEST.has(path) || segments.join('/') === `0/m-1/${path}`,
  );
}

const BASES = [
  ...READS,
  ...['MLmodel', 'data/weights.bin', 'data/100%25.txt', 'a%20b/%C3%A9'].map(
    path => `GET ${ARTIFACTS}/0/m-1/${path}`,
  ),
  ...[
    'POST /api/2.0/mlflow/runs/delete',
    `DELETE ${ARTIFACTS}/0/m-1/MLmodel`,
    'GET /health',
    'POST /graphql',
  ],
].map(split);
const METHODS = ['GET', 'HEAD', 'POST', 'DELETE'];
const ATOMS = [
  '..',
  '.',
  '/',
  '\\',
  '%',
  '%2e',
  '%2f',
  '%5c',
  '%25',
  '%00',
  '%c0%ae',
  '#',
  ';',
  '?',
  'api',
  'mlflow',
  '~',
  ' ',
  'é',
];

const anyHex = (text: string) =>
  [...Buffer.from(text, 'latin1')].map(byte => `%${byte.toString(16).padStart(2, '0')}`).join('');
const ENCODINGS: readonly ((text: string) => string)[] = [
  text => text,
  encodeURIComponent,
  text => encodeURIComponent(encodeURIComponent(text)),
  anyHex,
  text => encodeURIComponent(anyHex(text)),
];

/** What one segment, in each encoding, makes of a path in each of its places: put in, put on, put in the place of. */
function* variants(base: string, insert: string): Generator<string> {
  const segments = base.split('/').slice(1);
  for (const encode of ENCODINGS) {
    const put = encode(insert);
    for (let at = 0; at <= segments.length; at++) {
      const [before, after] = [segments.slice(0, at), segments.slice(at)];
      yield `/${[...before, put, ...after].join('/')}`;
      yield `/${[...before, put, ...after.slice(1)].join('/')}`;
      yield `/${before.join('/')}${put}${after.length > 0 ? '/' : ''}${after.join('/')}`;
    }
  }
}

test('of a million paths none leads to another request than it says, none out of the API, and none out of a snapshot', () => {
  const encodable = fc.string({ unit: 'binary-ascii', minLength: 1, maxLength: 6 });
  const insert = fc.oneof(
    {
      weight: 3,
      arbitrary: fc.array(fc.constantFrom(...ATOMS), { minLength: 1, maxLength: 5 }).map(all => all.join('')),
    },
    { weight: 1, arbitrary: encodable },
    { weight: 1, arbitrary: fc.constantFrom(...NO_NAMES) },
  );
  const inserts = fc.array(insert, { minLength: 10, maxLength: 10 });
  const seen = new Map<string, number>();
  let paths = 0;
  const check = (method: string, path: string) => {
    paths++;
    const target = targetOf(method, path);
    if (target !== null && !isRightFor(method, path, target))
      throw new Error(`${method} ${path}: ${JSON.stringify(target)}`);
    const kind = target?.kind ?? 'none';
    seen.set(kind, (seen.get(kind) ?? 0) + 1);
  };
  const property = fc.property(
    fc.constantFrom(...BASES),
    fc.constantFrom(...METHODS),
    inserts,
    ([own, base], other, all) => {
      check(own, base);
      for (const one of all)
        for (const path of variants(base, one)) check(paths % 4 === 0 ? other : own, path);
    },
  );
  fc.assert(property, { numRuns: 1_200, endOnFailure: true });
  expect(paths).toBeGreaterThan(1_000_000);
  // The others are none that could be wrong: each kind came, by thousands where it can.
  for (const kind of ['read', 'listing', 'file', 'other', 'foreign', 'malformed', 'none'])
    expect(seen.get(kind), kind).toBeGreaterThan(kind === 'listing' || kind === 'read' ? 5 : 1_000);
}, 60_000);
