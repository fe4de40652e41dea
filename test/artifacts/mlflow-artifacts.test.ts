import { once } from 'node:events';
import { createServer } from 'node:http';
import { createServer as createRawServer } from 'node:net';
import { gzipSync } from 'node:zlib';
import { describe, expect, onTestFinished, test } from 'vitest';
import { fetchAll } from '../../src/artifacts/fetch.ts';
import { MlflowArtifacts } from '../../src/artifacts/mlflow-artifacts.ts';
import { EventBus, type SidecarEvent } from '../../src/domain/events.ts';
import { type Answer, call, clientFor, listen, serve } from '../upstream/support.ts';
import { fetchOptions } from './support.ts';

const ENDPOINT = '/api/2.0/mlflow-artifacts/artifacts';

async function sourceAt(url: string, events = new EventBus()): Promise<MlflowArtifacts> {
  return new MlflowArtifacts(await clientFor({ trusted: [url] }), events, url + ENDPOINT, [
    '0',
    'a b#c?d',
    'artifacts',
  ]);
}

async function answering(answer: Answer) {
  const upstream = await serve(() => answer);
  return { upstream, source: await sourceAt(upstream.url) };
}

async function read(source: MlflowArtifacts, signal = call().signal): Promise<number> {
  const opened = await source.open('MLmodel', { ...call(), signal });
  let bytes = 0;
  try {
    for await (const chunk of opened.body) bytes += chunk.byteLength;
    return bytes;
  } finally {
    opened.close();
  }
}

async function readSmall(
  source: MlflowArtifacts,
  size: number,
  { signal = call().signal, isOneOfMany = false } = {},
): Promise<number> {
  const progress = { answered: () => undefined, came: () => undefined };
  const bytes = await source.read({ path: 'MLmodel', size, isOneOfMany }, { ...call(), signal }, progress);
  return bytes.byteLength;
}

describe('the address', () => {
  test('of a listing has the path as a query', async () => {
    const { source, upstream } = await answering({});
    await source.list('data/é', call());
    const url = new URL(upstream.asked[0]?.url ?? '', 'http://mlflow');
    expect(url.pathname).toBe(ENDPOINT);
    expect([...url.searchParams]).toEqual([['path', '0/a b#c?d/artifacts/data/é']]);
  });

  test('of a file is encoded segment by segment', async () => {
    const { source, upstream } = await answering({ body: 'x' });
    (await source.open('data/%2e%2e/é &', call())).close();
    expect(upstream.asked[0]?.url).toBe(`${ENDPOINT}/0/a%20b%23c%3Fd/artifacts/data/%252e%252e/%C3%A9%20%26`);
  });

  test('asks for the bytes as they are, of the whole file', async () => {
    const { source, upstream } = await answering({ body: 'x' });
    (await source.open('MLmodel', call())).close();
    expect(upstream.asked[0]?.headers['accept-encoding']).toBe('identity');
    expect(upstream.asked[0]?.headers).not.toHaveProperty('range');
  });
});

describe('a listing', () => {
  test('takes sizes as numbers or strings, and what is left out', async () => {
    const files = [
      { path: 'a', is_dir: false, file_size: 5 },
      { path: 'b', is_dir: false, file_size: '50000000000' },
      { path: 'c', is_dir: true },
      { path: 'd' },
      { path: 'e', is_dir: true, file_size: 0 },
    ];
    const { source } = await answering({ body: { files } });
    expect(await source.list('', call())).toEqual([
      { name: 'a', isDir: false, size: 5 },
      { name: 'b', isDir: false, size: 50_000_000_000 },
      { name: 'c', isDir: true, size: null },
      { name: 'd', isDir: false, size: null },
      { name: 'e', isDir: true, size: null },
    ]);
  });

  test.each<[string, Answer, string]>([
    [
      '404',
      { status: 404, body: { error_code: 'RESOURCE_DOES_NOT_EXIST', message: 'no such run' } },
      'artifact_missing',
    ],
    [
      '400',
      { status: 400, body: { error_code: 'INVALID_PARAMETER_VALUE', message: 'Invalid path' } },
      'artifact_missing',
    ],
    ['403', { status: 403, body: 'no' }, 'access_denied'],
  ])('that is refused with %s has its code and is not asked for again', async (_, answer, code) => {
    const { source, upstream } = await answering(answer);
    await expect(source.list('', call())).rejects.toMatchObject({ code });
    expect(upstream.asked).toHaveLength(1);
  });

  test.each([
    { files: 'none' },
    { files: [{ path: 7 }] },
    { files: [{ path: 'a', file_size: -1 }] },
    { files: [{}] },
    { files: null },
    { message: 'rate limited' },
    { message: 'rate limited'.padEnd(20_000, '.') },
    { files: Array(2_000).fill({ path: 'a', file_size: 'large' }) },
  ])('that says %j is tried again, and ends with the caller’s signal', async body => {
    const { source, upstream } = await answering({ body });
    const signal = AbortSignal.timeout(150);
    await expect(source.list('', { ...call(), signal })).rejects.toBeInstanceOf(Error);
    expect(upstream.asked).toHaveLength(1);
  });

  test('is empty where MLflow leaves the list out', async () => {
    for (const body of [{}, { files: [] }]) {
      const { source } = await answering({ body });
      expect(await source.list('', call())).toEqual([]);
    }
  });

  test('of as many names as are taken has them all, and of one more is unsafe_path', async () => {
    const names = Array.from({ length: 50_000 }, (_, n) => ({ path: `é-${n}`, is_dir: false, file_size: n }));
    const { source } = await answering({ body: { files: names } });
    const entries = await source.list('', call());
    expect(entries).toHaveLength(50_000);
    expect(entries[49_999]).toEqual({ name: 'é-49999', isDir: false, size: 49_999 });
    const more = await answering({ body: { files: [...names, { path: 'x' }] } });
    await expect(more.source.list('', call())).rejects.toMatchObject({
      code: 'unsafe_path',
      message: expect.stringContaining('more than 50000 entries'),
      serverFault: false,
    });
    expect(more.upstream.asked).toHaveLength(1);
  });

  test('of more than 16 MiB is not read to its end', async () => {
    const chunk = Buffer.alloc(1024 * 1024, ' ');
    const server = createServer((_, res) => {
      const more = () => {
        while (!res.destroyed && res.write(chunk));
        if (!res.destroyed) res.once('drain', more);
      };
      more();
    });
    const url = await listen(server);
    const events = new EventBus();
    const told: SidecarEvent[] = [];
    const failed = new Promise<void>(resolve => {
      events.subscribe(event => {
        told.push(event);
        resolve();
      });
    });
    const source = await sourceAt(url, events);
    const controller = new AbortController();
    const listing = source
      .list('', { ...call(), signal: controller.signal })
      .catch((error: unknown) => error);
    await failed;
    controller.abort(new Error('seen'));
    await listing;
    expect(told).toMatchObject([
      {
        type: 'try_failed',
        retryInMs: null,
        error: { code: 'unsafe_path', message: /larger than 16777216/ },
      },
    ]);
  });
});

describe('a file', () => {
  test.each<[string, Answer, string]>([
    ['404', { status: 404, body: 'no' }, 'artifact_missing'],
    ['401', { status: 401, body: 'no' }, 'access_denied'],
    ['403', { status: 403, body: 'no' }, 'access_denied'],
    ['500', { status: 500, body: 'no' }, 'mlflow_error'],
    ['503', { status: 503, body: 'no' }, 'mlflow_error'],
    ['a redirect to its own host', { status: 302, headers: { location: '/x' } }, 'unsafe_path'],
    ['a redirect to another host', { status: 307, headers: { location: 'http://evil/x' } }, 'unsafe_path'],
    ['a part of it', { status: 206, headers: { 'content-range': 'bytes 0-0/9' }, body: 'x' }, 'mlflow_error'],
    ['nothing', { status: 204, body: '' }, 'mlflow_error'],
    ['gzip', { headers: { 'content-encoding': 'gzip' }, body: gzipSync('x') }, 'artifact_corrupt'],
  ])('that is answered with %s is %s', async (_, answer, code) => {
    const { source } = await answering(answer);
    await expect(source.open('MLmodel', call())).rejects.toMatchObject({ code });
    await expect(readSmall(source, 1)).rejects.toMatchObject({ code });
  });

  test('on a server that is not there is mlflow_unreachable', async () => {
    const source = await sourceAt('http://127.0.0.1:1');
    const unreachable = { code: 'mlflow_unreachable' };
    await expect(source.open('MLmodel', call())).rejects.toMatchObject(unreachable);
    await expect(readSmall(source, 1)).rejects.toMatchObject(unreachable);
  });

  test('that is shorter than its Content-Length is artifact_corrupt', async () => {
    const server = createServer((_, res) => {
      res.writeHead(200, { 'content-length': '100' });
      res.write('half');
      setTimeout(() => res.destroy(), 10);
    });
    const source = await sourceAt(await listen(server));
    const brokenOff = { code: 'artifact_corrupt', serverFault: true };
    await expect(read(source)).rejects.toMatchObject(brokenOff);
    await expect(readSmall(source, 100)).rejects.toMatchObject({
      ...brokenOff,
      message: expect.stringContaining('broke off'),
    });
  });

  test.each([
    ['says that it has another size than is listed', { 'content-length': '4' }, 'MLmodel has 4 bytes'],
    ['brings more than is listed', { 'transfer-encoding': 'chunked' }, 'more than 3'],
  ])('that %s is artifact_corrupt, and its connection is closed', async (_, headers, message) => {
    let closed = 0;
    const server = createServer((_req, res) => {
      res.on('close', () => closed++);
      res.writeHead(200, headers);
      res.write('four');
    });
    const source = await sourceAt(await listen(server));
    await expect(readSmall(source, 3)).rejects.toMatchObject({
      code: 'artifact_corrupt',
      message: expect.stringContaining(message),
    });
    await expect.poll(() => closed).toBe(1);
  });

  test('that is one of many comes on a connection that is kept for the next; any other has its own', async () => {
    const { source, upstream } = await answering({ body: 'x' });
    await readSmall(source, 1, { isOneOfMany: true });
    await readSmall(source, 1, { isOneOfMany: false });
    expect(upstream.asked.map(({ headers }) => headers['connection'])).toEqual(['keep-alive', 'close']);
  });

  test('without a Content-Length says nothing of its length', async () => {
    const server = createServer((_, res) => res.end('whole'));
    const source = await sourceAt(
      await listen(
        createServer((req, res) => {
          res.useChunkedEncodingByDefault = false;
          server.emit('request', req, res);
        }),
      ),
    );
    await expect(read(source)).resolves.toBe(5);
  });

  test('whose kept connection is closed just then comes on one of its own, at once; another’s failure stands', async () => {
    let connections = 0;
    const server = createServer((req, res) => {
      if (req.headers.connection === 'keep-alive') req.socket.destroy();
      else res.end('x');
    });
    server.on('connection', () => connections++);
    const source = await sourceAt(await listen(server));
    await expect(readSmall(source, 1, { isOneOfMany: true })).resolves.toBe(1);
    expect(connections).toBe(2);
    const dead = await sourceAt(await listen(createServer(req => req.socket.destroy())));
    await expect(readSmall(dead, 1)).rejects.toMatchObject({ code: 'mlflow_unreachable' });
  });

  test('that stalls ends with the signal, with its reason', async () => {
    const server = createServer((_, res) => {
      res.writeHead(200, { 'content-length': '100' });
      res.write('half');
    });
    const source = await sourceAt(await listen(server));
    const signal = AbortSignal.timeout(60);
    const thrown = await Promise.allSettled([read(source, signal), readSmall(source, 100, { signal })]);
    expect(thrown).toEqual(Array(2).fill({ status: 'rejected', reason: signal.reason }));
  });
});

test.each([
  ['Content-Length', 'Content-Length: 4\r\n\r\nbody', true],
  ['chunks', 'Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n', true],
  ['the connection', 'Connection: close\r\n\r\nbody', false],
])('a body that ends with %s', async (_, rest, hasEnd) => {
  const raw = createRawServer(socket => socket.once('data', () => socket.end(`HTTP/1.1 200 OK\r\n${rest}`)));
  raw.listen(0, '127.0.0.1');
  await once(raw, 'listening');
  onTestFinished(() => void raw.close());
  const address = raw.address();
  const port = typeof address === 'object' ? address?.port : 0;
  const source = await sourceAt(`http://127.0.0.1:${port}`);
  const opened = await source.open('MLmodel', call());
  expect(opened.hasEnd).toBe(hasEnd);
  opened.close();
  const told: SidecarEvent[] = [];
  const options = fetchOptions();
  options.events.subscribe(event => told.push(event));
  const file = { path: 'MLmodel', size: null, source };
  const fetching = fetchAll([file], options, { ...call(), signal: AbortSignal.timeout(1_000) });
  if (hasEnd) await expect(fetching).resolves.toMatchObject([{ path: 'MLmodel', size: 4 }]);
  else {
    await expect(fetching).rejects.toThrow();
    expect(told).toMatchObject([{ type: 'try_failed', error: { code: 'artifact_corrupt' } }]);
  }
});
