import { connect } from 'node:net';
import pLimit from 'p-limit';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { bytesOf, type Reply, readAll, replyOf } from '../http/support.ts';
import { BESIDE_THE_API, OTHER_ROUTES, READS } from '../support/mlflow-routes.ts';
import { type RecordingUpstream, recordingUpstream } from '../support/recording-upstream.ts';
import { type RunningSidecar, startSidecar } from '../support/sidecar.ts';

/** What MLflow's client does not try again; it would take minutes. */
const REFUSALS = [400, 401, 403, 404, 413, 415, 501];
const JSON_TYPE = 'Content-Type: application/json';
const HOST = 'Host: localhost';

let upstream: RecordingUpstream;
let sidecar: RunningSidecar;

beforeAll(async () => {
  upstream = await recordingUpstream();
  sidecar = await startSidecar({ MLFLOW_TRACKING_URI: upstream.url, SIDECAR_PROXY: 'read-only' });
});

afterAll(async () => {
  await sidecar.stop();
  await upstream.close();
});

const some = pLimit(16);

/** All that comes back for these very bytes until the connection ends. */
async function answersTo(bytes: string, to = sidecar): Promise<string> {
  const socket = connect(Number(new URL(to.url).port), '127.0.0.1');
  socket.on('error', () => undefined);
  // What ends the connection early may do so while the bytes are sent.
  socket.write(Buffer.from(bytes, 'latin1'));
  return await readAll(socket).catch(() => '');
}

/** The lines and bodies of what reached MLflow meanwhile; the sidecar itself asks for its health. */
async function reaching(act: () => Promise<unknown>): Promise<readonly string[]> {
  const before = upstream.requests.length;
  await act();
  const since = upstream.requests.slice(before).filter(({ line }) => line !== 'GET /health');
  return since.map(({ line, body }) => (body === '' ? line : `${line} ${body}`)).toSorted();
}

function split(route: string): readonly [string, string] {
  const [method = '', path = ''] = route.split(' ');
  return [method, path];
}

const hex = (text: string) => text.replace(/[^/]/g, one => `%${one.charCodeAt(0).toString(16)}`);
const twice = (text: string) => hex(text).replaceAll('%', '%25');
const at = (path: string, place: number, segment: string) =>
  path.split('/').toSpliced(place, 0, segment).join('/');
const swapped = (path: string) => path.replace(/[a-z](?=[^/]*$)/, letter => letter.toUpperCase());

/** One path in the forms in which it might slip through. */
const FORMS: readonly (readonly [string, (path: string) => string])[] = [
  ['as it is', path => path],
  ['encoded', hex],
  ['encoded twice', twice],
  ['half encoded', path => path.replace(/[a-z](?=[^/]*$)/, hex)],
  ['after a parent', path => `/api/2.0/mlflow/registered-models/get/../../../../..${path}`],
  ['after encoded parents', path => `/api/2.0/mlflow-artifacts/artifacts/%2e%2e/%2E%2E/..%2f..${path}`],
  [
    'after parents encoded twice',
    path => `/api/2.0/mlflow-artifacts/artifacts/x/%252e%252e/%252e%252e%252f${path}`,
  ],
  [
    'after parents with backslashes',
    path => `/api/2.0/mlflow/runs/get/..\\..\\..\\..${path.replaceAll('/', '\\')}`,
  ],
  ['after overlong parents', path => `/api/2.0/mlflow-artifacts/artifacts/%c0%ae%c0%ae/%c0%ae%c0%ae${path}`],
  ['after parents with parameters', path => `/api/2.0/mlflow-artifacts/artifacts/..;/..;x=1${path}`],
  ['with a directory in it', path => at(path, 3, '.')],
  ['with an empty segment', path => at(path, 2, '')],
  ['with encoded slashes', path => path.replaceAll('/', '%2f').replace('%2f', '/')],
  ['behind a fragment', path => `/api/2.0/mlflow/registered-models/get#${path}`],
  ['with parameters', path => `${path};x=1`],
  ['with a NUL', path => `${path}%00`],
  ['with a slash', path => `${path}/`],
  ['in other letters', swapped],
  ['behind two slashes', path => `/${path}`],
  ['as an absolute address', path => `http://localhost${path}`],
  ['as an address of MLflow', path => `${upstream.url}${path}`],
  ['as an address without a host', path => `http://${path}`],
  ['with an authority in it', path => `//user@localhost:5000${path}`],
  ['after a read', path => `/api/2.0/mlflow/registered-models/get?name=a${path}`],
];

describe('of what MLflow answers besides reads nothing reaches it', () => {
  const routes = [...OTHER_ROUTES, ...BESIDE_THE_API].map(split);

  test.each(FORMS)('%s', async (form, write) => {
    const replies: (readonly [string, Reply])[] = [];
    const reached = await reaching(async () => {
      const send = async ([method, path]: readonly [string, string]) => {
        const target = write(path);
        const body = method === 'GET' ? '' : '{"name": "a"}';
        const bytes = bytesOf(method, target, [HOST, JSON_TYPE, 'Accept: text/plain'], body);
        replies.push([`${method} ${target}`, replyOf(await answersTo(bytes))]);
      };
      await Promise.all(routes.map(route => some(send, route)));
    });
    const gets = routes.filter(([method]) => method === 'GET');
    if (form === 'after a read') {
      // It is one, whose model has a strange name.
      const asked = gets.map(
        ([, path]) => `GET /api/2.0/mlflow/registered-models/get?name=${encodeURIComponent(`a${path}`)}`,
      );
      expect(reached).toEqual(asked.toSorted());
    } else expect(reached).toEqual([]);
    expect(replies).toHaveLength(routes.length);
    const wrong = replies.filter(
      ([line, reply]) => !isRefusal(reply) && !(form === 'after a read' && line.startsWith('GET')),
    );
    expect(wrong).toEqual([]);
  });

  test('by no method that a client makes up', async () => {
    const methods = ['PUT', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE', 'PROPFIND', 'MKCOL', 'LINK', 'PURGE'];
    const reached = await reaching(async () => {
      for (const route of READS)
        for (const method of methods) {
          const reply = replyOf(await answersTo(bytesOf(method, split(route)[1], [HOST])));
          expect([method, route, reply.status]).toEqual([method, route, 403]);
        }
    });
    expect(reached).toEqual([]);
  });

  test('by no header that says another method or address', async () => {
    const headers = [
      'Method-Override',
      'HTTP-Method-Override',
      'HTTP-Method',
      'Original-Method',
      'Original-URL',
      'Rewrite-URL',
    ];
    const overriding = [
      ...headers.map(name => `X-${name}: ${name.endsWith('URL') ? '/api/2.0/mlflow/runs/delete' : 'DELETE'}`),
      ...[
        'X-Forwarded-Host: evil',
        'X-Forwarded-Prefix: /graphql',
        'X-Forwarded-Proto: https',
        'Forwarded: host=evil',
      ],
      ...[
        'Cookie: session=1',
        'X-Api-Version: 2',
        'Connection: close, X-Mine',
        'X-Mine: 1',
        'Keep-Alive: 9',
        'TE: trailers',
      ],
      ...[
        'Upgrade: h2c',
        'HTTP2-Settings: AAMAAABkAAQAAP__',
        'Proxy-Authorization: Basic eDp5',
        'Expect: 100-continue',
      ],
    ];
    const path = '/api/2.0/mlflow/registered-models/get-latest-versions';
    const before = upstream.requests.length;
    const reached = await reaching(async () => {
      await answersTo(bytesOf('GET', `${path}?name=a`, [HOST, ...overriding]));
      await answersTo(
        bytesOf('POST', `${path}?_method=DELETE`, [HOST, JSON_TYPE, ...overriding], '{"name": "a"}'),
      );
    });
    expect(reached).toEqual([`GET ${path}?name=a`, `POST ${path} {"name":"a"}`]);
    const names = upstream.requests.slice(before).flatMap(({ headers: sent }) => Object.keys(sent));
    expect([...new Set(names)].toSorted()).toEqual([
      'accept-encoding',
      'connection',
      'content-length',
      'content-type',
      'host',
      'user-agent',
    ]);
    expect(upstream.requests.map(({ headers: { host } }) => host)).toContain(new URL(upstream.url).host);
  });
});

/** One that ends with the request, in MLflow's shape where the path is MLflow's, and in ours elsewhere. */
function isRefusal(reply: Reply): boolean {
  const body = z.object({ error_code: z.string(), message: z.string() });
  const type = reply.headers.get('content-type');
  const isMlflows = type === 'application/json' && body.safeParse(JSON.parse(reply.text)).success;
  const isOurs = /^(text\/plain; charset=utf-8|application\/problem\+json)$/.test(type ?? '');
  const isOfItsKind = reply.status === 404 || /not valid HTTP/.test(reply.text) ? isOurs : isMlflows;
  return REFUSALS.includes(reply.status) && isOfItsKind && !reply.headers.has('retry-after');
}

/** Which version an address is of is asked beside it. */
const OF_ADDRESS = 'GET /api/2.0/mlflow/model-versions/get?name=a+b&version=';

describe('a read reaches MLflow as it is meant, and once', () => {
  const target = (path: string) => (path.includes('latest-versions') ? path : `${path}?name=a%20b&x=%26`);
  const ways: readonly (readonly [string, (path: string) => string])[] = [
    ['as it is', path => path],
    ['encoded', hex],
    ['behind two slashes', path => `/${path}`],
    ['as an absolute address', path => `http://evil.example:1${path}`],
  ];

  test.each(ways)('%s', async (_, write) => {
    const reached = await reaching(async () => {
      const send = async ([method, path]: readonly [string, string]) => {
        const [own = '', query = ''] = target(path).split(/(?=\?)/);
        const body = method === 'POST' ? '{"filter": "a", "name": "a"}' : '';
        const reply = replyOf(await answersTo(bytesOf(method, write(own) + query, [HOST, JSON_TYPE], body)));
        expect([method, path, reply.status]).toEqual([method, path, 200]);
      };
      await Promise.all(READS.map(route => some(send, split(route))));
    });
    const sent = READS.map(split).map(([method, path]) => {
      if (method === 'POST') return `POST ${path} {"filter":"a","name":"a"}`;
      if (path.includes('-artifacts')) return `GET ${path}`;
      return `GET ${path.includes('latest-versions') ? path : `${path}?name=a+b&x=%26`}`;
    });
    expect(reached.filter(line => line !== OF_ADDRESS)).toEqual(sent.toSorted());
  });
});

const READ = '/api/2.0/mlflow/registered-models/get?name=a';
const LATEST = '/api/2.0/mlflow/registered-models/get-latest-versions';
const HIDDEN = `DELETE /api/2.0/mlflow/registered-models/delete HTTP/1.1\r\n${HOST}\r\nContent-Length: 2\r\n\r\n{}`;
const CHUNKED = 'Transfer-Encoding: chunked';

function request(line: string, headers: readonly string[], body: string): string {
  return [`${line} HTTP/1.1`, HOST, ...headers, '', body].join('\r\n');
}

/** Shapes of which two servers may think differently, each with another request in it. */
const SMUGGLED: readonly (readonly [string, string])[] = [
  ['a length and chunks', request(`POST ${LATEST}`, ['Content-Length: 5', CHUNKED], `0\r\n\r\n${HIDDEN}`)],
  [
    'chunks and a length',
    request(`POST ${LATEST}`, [CHUNKED, `Content-Length: ${HIDDEN.length}`], `0\r\n\r\n${HIDDEN}`),
  ],
  [
    'two lengths',
    request(`POST ${LATEST}`, ['Content-Length: 0', `Content-Length: ${HIDDEN.length}`], HIDDEN),
  ],
  ['one length twice', request(`POST ${LATEST}`, ['Content-Length: 2', 'Content-Length: 2'], `{}${HIDDEN}`)],
  ['a list of lengths', request(`POST ${LATEST}`, ['Content-Length: 2, 2'], `{}${HIDDEN}`)],
  ['a signed length', request(`POST ${LATEST}`, ['Content-Length: +2'], `{}${HIDDEN}`)],
  ['a hexadecimal length', request(`POST ${LATEST}`, ['Content-Length: 0x2'], `{}${HIDDEN}`)],
  [
    'a space before the colon',
    request(`POST ${LATEST}`, ['Transfer-Encoding : chunked'], `0\r\n\r\n${HIDDEN}`),
  ],
  [
    'a length with a space before the colon',
    request(`POST ${LATEST}`, ['Content-Length : 2'], `{}${HIDDEN}`),
  ],
  ['another coding', request(`POST ${LATEST}`, ['Transfer-Encoding: xchunked'], `0\r\n\r\n${HIDDEN}`)],
  [
    'a coding after chunks',
    request(`POST ${LATEST}`, ['Transfer-Encoding: chunked, identity'], `0\r\n\r\n${HIDDEN}`),
  ],
  ['two codings', request(`POST ${LATEST}`, [CHUNKED, 'Transfer-Encoding: identity'], `0\r\n\r\n${HIDDEN}`)],
  [
    'a vertical tab in a coding',
    request(`POST ${LATEST}`, ['Transfer-Encoding: \vchunked'], `0\r\n\r\n${HIDDEN}`),
  ],
  ['a folded header', request(`POST ${LATEST}`, ['X: a', ` ${CHUNKED}`], `0\r\n\r\n${HIDDEN}`)],
  ['a folded coding', request(`POST ${LATEST}`, ['Transfer-Encoding:', ' chunked'], `0\r\n\r\n${HIDDEN}`)],
  ['a header that begins with a space', request(`POST ${LATEST}`, [` ${CHUNKED}`], `0\r\n\r\n${HIDDEN}`)],
  ['a bare line feed', request(`POST ${LATEST}`, [`X: a\n${CHUNKED}`], `0\r\n\r\n${HIDDEN}`)],
  ['line feeds alone', request(`POST ${LATEST}`, [CHUNKED], `0\r\n\r\n${HIDDEN}`).replaceAll('\r', '')],
  ['a bare carriage return', request(`POST ${LATEST}`, [`X: a\r${CHUNKED}`], `0\r\n\r\n${HIDDEN}`)],
  ['a NUL in a header', request(`POST ${LATEST}`, ['X: a\0b'], HIDDEN)],
  [
    'a line feed in a chunk’s extension',
    request(`POST ${LATEST}`, [CHUNKED], `2;\nxx\r\n{}\r\n0\r\n\r\n${HIDDEN}`),
  ],
  ['a chunk without its end', request(`POST ${LATEST}`, [CHUNKED], `2\r\n{}0\r\n\r\n${HIDDEN}`)],
  ['a chunk’s size with a sign', request(`POST ${LATEST}`, [CHUNKED], `+2\r\n{}\r\n0\r\n\r\n${HIDDEN}`)],
  [
    'a chunk’s size that overflows',
    request(`POST ${LATEST}`, [CHUNKED], `10000000000000002\r\n{}\r\n0\r\n\r\n${HIDDEN}`),
  ],
  [
    'chunks to HTTP/1.0',
    request(`POST ${LATEST}`, [CHUNKED, 'Content-Length: 5'], `0\r\n\r\n${HIDDEN}`).replace('1.1', '1.0'),
  ],
  ['two hosts', request(`GET ${READ}`, ['Host: evil.example', 'Connection: close'], '')],
  [
    'a host and one in the address',
    request(`GET http://evil.example${READ}`, ['Host: evil.example', 'Connection: close'], ''),
  ],
  ['a line break in the target', request(`GET ${READ}\r\nX: y`, ['Connection: close'], '')],
  [
    'a request within the address',
    request(`GET ${READ} HTTP/1.1\r\n\r\n${HIDDEN}\r\nGET /x`, ['Connection: close'], ''),
  ],
  ['a tunnel', request('CONNECT mlflow:5000', [], HIDDEN)],
  ['HTTP/2', `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n${HIDDEN}`],
  ['HTTP/0.9', `GET ${READ}\r\n${HIDDEN}`],
];

describe('nothing is smuggled past', () => {
  test.each(SMUGGLED)('with %s', async (_, bytes) => {
    let answers = '';
    const reached = await reaching(async () => {
      answers = await answersTo(bytes);
    });
    expect(reached).toEqual([]);
    const statuses = [...answers.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => Number(status));
    expect(statuses.filter(status => !REFUSALS.includes(status))).toEqual([]);
  });

  test('in a body, which is no request', async () => {
    const body = JSON.stringify({ name: HIDDEN });
    const close = 'Connection: close';
    const reached = await reaching(async () => {
      const sent = [
        request(`POST ${LATEST}`, [JSON_TYPE, close, `Content-Length: ${body.length}`], body),
        request(
          `POST ${LATEST}`,
          [JSON_TYPE, close, CHUNKED],
          `${body.length.toString(16)};a="${'x'.repeat(50)}"\r\n${body}\r\n0\r\nX: y\r\n\r\n`,
        ),
        request(`GET ${READ}`, [close, `Content-Length: ${HIDDEN.length}`], HIDDEN),
        request(`DELETE ${READ}`, [close, `Content-Length: ${HIDDEN.length}`], HIDDEN),
      ];
      for (const bytes of sent)
        expect(replyOf(await answersTo(bytes)).status).toBe(bytes.startsWith('DELETE') ? 403 : 200);
    });
    expect(reached).toEqual([`GET ${READ}`, `POST ${LATEST} ${body}`, `POST ${LATEST} ${body}`]);
  });

  test('behind a read, where it is refused as on its own', async () => {
    let answers = '';
    const reached = await reaching(async () => {
      answers = await answersTo(
        `${request(`GET ${READ}`, [], '')}${HIDDEN}${request(`GET ${READ}`, ['Connection: close'], '')}`,
      );
    });
    expect(reached).toEqual([`GET ${READ}`, `GET ${READ}`]);
    expect([...answers.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status)).toEqual([
      '200',
      '403',
      '200',
    ]);
  });

  test('and nothing else came that was no request', () => {
    expect(upstream.broken).toEqual([]);
  });
});

test('where the sidecar does not stand in for MLflow nothing is there, and nothing asked', async () => {
  const off = await startSidecar({ MLFLOW_TRACKING_URI: upstream.url, SIDECAR_PROXY: 'off' });
  try {
    const reached = await reaching(async () => {
      const routes = [...READS, ...OTHER_ROUTES, ...BESIDE_THE_API, 'GET /health', 'GET /version'].map(split);
      const send = async ([method, path]: readonly [string, string]) => {
        const reply = replyOf(await answersTo(bytesOf(method, path), off));
        expect([method, path, reply.status]).toEqual([method, path, 404]);
      };
      await Promise.all(routes.map(route => some(send, route)));
    });
    expect(reached).toEqual([]);
  } finally {
    await off.stop();
  }
});
