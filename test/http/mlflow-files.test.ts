import { once } from 'node:events';
import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { SidecarError } from '../../src/domain/errors.ts';
import { answered } from '../../src/proxy/answer.ts';
import type { FileRequest, Opened, Passed, StoredFile } from '../../src/proxy/opened.ts';
import { OpenFile } from '../../src/store/disk/open-file.ts';
import { bytesOf, members, type Reply, readAll, replyOf, sendBytes, sidecar } from './support.ts';

const FILE = '/api/2.0/mlflow-artifacts/artifacts/0/m-1/data/a%20b.bin';
const TEXT = 'abcdefghijklmnopqrstuvwxyz';
const SHA = 'ab'.repeat(32);
const ETAG = `"${SHA}"`;

/** A sidecar that has this for every file. */
async function opening(opened: Opened | Error | ((request: FileRequest) => Opened | Promise<Opened>)) {
  const requests: FileRequest[] = [];
  const unused = () => Promise.reject(new Error('unused'));
  const running = await sidecar({
    settings: { proxy: 'read-only' },
    proxy: {
      read: unused,
      list: unused,
      plain: unused,
      relay: unused,
      open: async request => {
        requests.push(request);
        if (opened instanceof Error) throw opened;
        return typeof opened === 'function' ? await opened(request) : opened;
      },
    },
  });
  return { ...running, asked: requests };
}

async function stored(
  content = TEXT,
  size = content.length,
  age: Pick<StoredFile, 'ageS' | 'stale'> = { ageS: null, stale: null },
) {
  const dir = await mkdtemp(join(tmpdir(), 'sidecar-file-'));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  const path = join(dir, 'file');
  await writeFile(path, content);
  let isOpen = 0;
  const running = await opening(async ({ signal }) => {
    const file = await OpenFile.open(path, signal);
    isOpen++;
    const close = () => {
      isOpen--;
      file.close();
    };
    return { kind: 'stored', size, sha256: SHA, read: (from, to) => file.read(from, to), close, ...age };
  });
  onTestFinished(() => expect(isOpen).toBe(0));
  return { path, ...running };
}

/** On its way: `bytes` after another, then the end, or a failure. */
function arriving(size: number, bytes: readonly string[] = [TEXT], failure: Error | null = null): Opened {
  const whole = bytes.join('');
  return {
    kind: 'arriving',
    size,
    read: async function* (from, to) {
      if (failure === null) return yield Buffer.from(whole.slice(from, to ?? undefined));
      for (const one of bytes) yield Buffer.from(one);
      throw failure;
    },
  };
}

function passed(more: Partial<Passed> = {}, ...parts: readonly (string | Error)[]) {
  let closed = 0;
  const body = async function* () {
    for (const part of parts) {
      if (part instanceof Error) throw part;
      yield Buffer.from(part);
    }
  };
  const opened: Passed = {
    kind: 'passed',
    status: 200,
    headers: { 'content-type': 'text/plain', etag: '"of-mlflow"' },
    length: null,
    body: body(),
    close: () => closed++,
    ...more,
  };
  return { opened, closed: () => closed };
}

function get(port: number, ...headers: readonly string[]): Promise<Reply> {
  return sendBytes(port, bytesOf('GET', FILE, ['Host: localhost', ...headers]));
}

/** All bytes of an answer until its connection ends, and whether that was by its own end. */
async function cut(port: number): Promise<string> {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => undefined);
  socket.write(bytesOf('GET', FILE));
  return await readAll(socket).catch(() => '');
}

describe('a stored file', () => {
  test('is given whole, by its name', async () => {
    const { port, asked } = await stored();
    const reply = await get(port);
    expect([reply.status, reply.text]).toEqual([200, TEXT]);
    expect(Object.fromEntries(reply.headers)).toMatchObject({
      'content-length': '26',
      'content-type': 'application/octet-stream',
      'content-disposition': 'attachment',
      'accept-ranges': 'bytes',
      'x-content-type-options': 'nosniff',
      etag: ETAG,
    });
    for (const name of ['age', 'x-sidecar-stale']) expect(reply.headers.get(name), name).toBeNull();
    expect(asked).toMatchObject([{ segments: ['0', 'm-1', 'data', 'a b.bin'], method: 'GET', headers: {} }]);
  });

  test('of a run, while MLflow is down, says how old it is, and why', async () => {
    const { port } = await stored(TEXT, TEXT.length, { ageS: 7, stale: 'mlflow_unreachable' });
    const { headers } = await get(port);
    expect([headers.get('age'), headers.get('x-sidecar-stale')]).toEqual(['7', 'mlflow_unreachable']);
  });

  test('by HEAD has all but its bytes', async () => {
    const { port } = await stored();
    const reply = await sendBytes(port, bytesOf('HEAD', FILE));
    expect([
      reply.status,
      reply.text,
      reply.headers.get('content-length'),
      reply.headers.get('etag'),
    ]).toEqual([200, '', '26', ETAG]);
    const part = await sendBytes(port, bytesOf('HEAD', FILE, ['Host: localhost', 'Range: bytes=1-2']));
    expect([part.status, part.text, part.headers.get('content-length')]).toEqual([206, '', '2']);
  });

  test.each([
    ['bytes=0-0', 'a', 'bytes 0-0/26'],
    ['bytes=1-3', 'bcd', 'bytes 1-3/26'],
    ['bytes=24-', 'yz', 'bytes 24-25/26'],
    ['bytes=24-999', 'yz', 'bytes 24-25/26'],
    ['bytes=-2', 'yz', 'bytes 24-25/26'],
    ['bytes=-26', TEXT, 'bytes 0-25/26'],
    ['bytes=-999', TEXT, 'bytes 0-25/26'],
  ])('gives a part of it: %s', async (range, text, contentRange) => {
    const { port } = await stored();
    const reply = await get(port, `Range: ${range}`);
    expect([reply.status, reply.text, reply.headers.get('content-range')]).toEqual([206, text, contentRange]);
    expect(reply.headers.get('content-length')).toBe(String(text.length));
  });

  test.each(['bytes=0-1,5-6', 'lines=0-1', 'bytes=', 'bytes', 'bytes=b-a', 'nonsense'])(
    'is given whole where the part is none that it gives: %s',
    async range => {
      const { port } = await stored();
      const reply = await get(port, `Range: ${range}`);
      expect(reply.headers.get('content-range') ?? '').not.toContain('-');
      if (reply.status === 200) expect(reply.text).toBe(TEXT);
      else expect(reply.status).toBe(416);
    },
  );

  test.each(['bytes=26-', 'bytes=99-100', 'bytes=-0'])(
    'has nothing at %s: 416, in MLflow’s shape',
    async range => {
      const { port } = await stored();
      const reply = await get(port, `Range: ${range}`);
      expect([reply.status, reply.headers.get('content-range')]).toEqual([416, 'bytes */26']);
      expect(reply.headers.get('content-type')).toBe('application/json');
      expect(members(reply)).toMatchObject({ error_code: 'INVALID_PARAMETER_VALUE' });
    },
  );

  test.each([
    [ETAG, 206],
    ['"other"', 200],
    [`W/${ETAG}`, 200],
    ['Mon, 23 Nov 2026 02:15:22 GMT', 200],
  ])('gives a part only if it is the file that the client means: If-Range %s', async (value, status) => {
    const { port } = await stored();
    const reply = await get(port, 'Range: bytes=1-3', `If-Range: ${value}`);
    expect([reply.status, reply.text]).toEqual([status, status === 206 ? 'bcd' : TEXT]);
  });

  test.each([
    [ETAG, 304],
    [`"x", W/${ETAG}`, 304],
    ['"x"', 200],
    [SHA, 200],
    ['*', 200],
  ])('is not sent to who has it: If-None-Match %s', async (value, status) => {
    const { port } = await stored();
    const reply = await get(port, `If-None-Match: ${value}`);
    expect([reply.status, reply.text]).toEqual([status, status === 304 ? '' : TEXT]);
    expect(reply.headers.get('etag')).toBe(ETAG);
  });

  test('that is empty is given, too', async () => {
    const { port } = await stored('');
    const reply = await get(port);
    expect([reply.status, reply.text, reply.headers.get('content-length')]).toEqual([200, '', '0']);
    for (const range of ['0-', '-1']) expect((await get(port, `Range: bytes=${range}`)).status).toBe(416);
  });

  test('of some MiB comes whole, through a client that is slow', async () => {
    const content = TEXT.repeat(200_000);
    const { port } = await stored(content);
    const socket = connect(port, '127.0.0.1');
    socket.write(bytesOf('GET', FILE));
    await once(socket, 'readable');
    await new Promise(resolve => setTimeout(resolve, 100));
    expect(replyOf(await readAll(socket)).text === content).toBe(true);
  });

  test('that is shorter than it was never looks whole', async () => {
    const { path, port, events } = await stored(TEXT.repeat(20_000), TEXT.length * 20_000 + 1);
    const answer = replyOf(await cut(port));
    expect(answer.text.length).toBeLessThan(Number(answer.headers.get('content-length') ?? Infinity));
    expect(events).toMatchObject([{ type: 'request_refused', error: { code: 'artifact_corrupt' } }]);
    await truncate(path, 0);
    const empty = await get(port);
    expect([empty.status, members(empty)['error_code']]).toEqual([424, 'DATA_LOSS']);
  });

  test('that is gone is an error, and nothing of a file', async () => {
    const { path, port } = await stored();
    await rm(path);
    const reply = await get(port, 'Range: bytes=0-1');
    expect([reply.status, members(reply)['error_code']]).toEqual([424, 'DATA_LOSS']);
    for (const name of ['etag', 'accept-ranges', 'content-range', 'content-disposition'])
      expect(reply.headers.get(name), name).toBeNull();
    expect(reply.text).not.toContain(path);
  });
});

describe('a file that is on its way', () => {
  test('is given as it comes, with its length and without an ETag', async () => {
    const { port } = await opening(arriving(26));
    const reply = await get(port);
    expect([reply.status, reply.text, reply.headers.get('content-length')]).toEqual([200, TEXT, '26']);
    expect(reply.headers.get('etag')).toBeNull();
  });

  test('gives a part of it, but not to who names one that nobody can know', async () => {
    const { port } = await opening(arriving(26));
    expect((await get(port, 'Range: bytes=-3')).text).toBe('xyz');
    expect(await get(port, 'Range: bytes=-3', `If-Range: ${ETAG}`)).toMatchObject({
      status: 200,
      text: TEXT,
    });
    expect(await get(port, 'If-None-Match: *')).toMatchObject({ status: 200 });
  });

  test('that breaks off cuts the connection', async () => {
    const { port, events } = await opening(
      arriving(26, ['abc'], new SidecarError('artifact_corrupt', 'Cut.')),
    );
    const answer = replyOf(await cut(port));
    expect(answer.headers.get('content-length') ?? '26').toBe('26');
    expect(answer.text.length).toBeLessThan(26);
    expect(events).toMatchObject([{ error: { code: 'artifact_corrupt' } }]);
  });

  test('of which nothing comes is an error', async () => {
    const { port } = await opening(arriving(26, [], new SidecarError('deadline_exceeded', 'Nothing came.')));
    const reply = await get(port);
    expect(reply.status).toBe(424);
    expect(members(reply)).toMatchObject({
      error_code: 'TEMPORARILY_UNAVAILABLE',
      code: 'deadline_exceeded',
    });
  });

  test('is not read ahead of a client that does not take it', async () => {
    const size = 1024 ** 3;
    let read = 0;
    const left = Promise.withResolvers<void>();
    const { port } = await opening({
      kind: 'arriving',
      size,
      read: async function* (from, to, signal) {
        signal.addEventListener('abort', () => left.resolve());
        for (const piece = Buffer.alloc(256 * 1024); read < (to ?? size) - from; read += piece.length)
          yield piece;
      },
    });
    const socket = connect(port, '127.0.0.1');
    socket.on('error', () => undefined);
    socket.pause().write(bytesOf('GET', FILE));
    await new Promise(resolve => setTimeout(resolve, 300));
    expect(read).toBeGreaterThan(0);
    // What the system's buffers take.
    expect(read).toBeLessThan(32 * 1024 * 1024);
    socket.destroy();
    await left.promise;
  });
});

describe('a file that MLflow is asked for', () => {
  test('is given with what MLflow says of it', async () => {
    const { opened, closed } = passed(
      { status: 206, length: 3, headers: { etag: '"x"', 'content-range': 'bytes 0-2/9' } },
      'abc',
    );
    const { port, asked } = await opening(opened);
    const headers = [
      'Range: bytes=0-2',
      'If-Range: "x"',
      'If-None-Match: "y"',
      'If-Modified-Since: z',
      'Cookie: c',
      'X-A: b',
    ];
    const reply = await get(port, ...headers);
    expect([reply.status, reply.text, reply.headers.get('content-range')]).toEqual([
      206,
      'abc',
      'bytes 0-2/9',
    ]);
    expect(asked[0]?.headers).toEqual({
      range: 'bytes=0-2',
      'if-range': '"x"',
      'if-none-match': '"y"',
      'if-modified-since': 'z',
    });
    expect(closed()).toBe(1);
  });

  test('of unknown length ends when it has come', async () => {
    const { port } = await opening(passed({}, 'abc', 'def').opened);
    const socket = connect(port, '127.0.0.1');
    socket.write(bytesOf('GET', FILE));
    const answer = await readAll(socket);
    expect(answer).toContain('Transfer-Encoding: chunked');
    expect(answer.endsWith('\r\n0\r\n\r\n')).toBe(true);
  });

  test.each([
    ['of unknown length', null],
    ['of a known length', 6],
  ])('%s that breaks off never looks whole', async (_, length) => {
    const { opened, closed } = passed({ length }, 'abc', new SidecarError('mlflow_unreachable', 'Cut.'));
    const { port } = await opening(opened);
    const answer = await cut(port);
    expect(answer.endsWith('0\r\n\r\n')).toBe(false);
    if (length !== null) expect(replyOf(answer).text.length).toBeLessThan(length);
    expect(closed()).toBe(1);
  });

  test('of unknown length is none for HTTP/1.0, by which its end and a cut are the same', async () => {
    const { opened, closed } = passed({}, 'abc');
    const { port, asked } = await opening(opened);
    const reply = await sendBytes(port, bytesOf('GET', FILE).replace('HTTP/1.1', 'HTTP/1.0'));
    expect([reply.status, members(reply)['error_code']]).toEqual([424, 'DATA_LOSS']);
    expect([asked.length, closed()]).toEqual([1, 1]);
    const { port: known } = await opening(passed({ length: 3 }, 'abc').opened);
    const whole = await sendBytes(known, bytesOf('GET', FILE).replace('HTTP/1.1', 'HTTP/1.0'));
    expect([whole.status, whole.text, whole.headers.get('content-length')]).toEqual([200, 'abc', '3']);
  });

  test.each([
    [304, ''],
    [416, ''],
  ])('may be none: %i', async (status, text) => {
    const { port } = await opening(passed({ status, length: 0 }).opened);
    expect(await get(port)).toMatchObject({ status, text });
  });

  test('by HEAD has the length that MLflow says', async () => {
    const { opened, closed } = passed({ length: 12_345 });
    const { port, asked } = await opening(opened);
    const reply = await sendBytes(port, bytesOf('HEAD', FILE));
    expect([reply.status, reply.text, reply.headers.get('content-length')]).toEqual([200, '', '12345']);
    expect(asked[0]?.method).toBe('HEAD');
    expect(closed()).toBe(1);
  });

  test('is left alone when the client has left', async () => {
    const left = Promise.withResolvers<unknown>();
    const { port } = await opening(({ signal }) => {
      signal.addEventListener('abort', () => left.resolve(signal.reason));
      const waiting = async function* () {
        yield Buffer.from('abc');
        await left.promise;
      };
      return passed({ body: waiting() }).opened;
    });
    const socket = connect(port, '127.0.0.1');
    socket.write(bytesOf('GET', FILE));
    await once(socket, 'data');
    socket.destroy();
    expect(await left.promise).toBeInstanceOf(SidecarError);
  });
});

test('what is no file at all is MLflow’s answer', async () => {
  const missing = '{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "No such artifact"}';
  const { port } = await opening({
    kind: 'answer',
    answer: { ...answered(missing, 404), ageS: 3, stale: 'circuit_open' },
  });
  const reply = await get(port);
  expect([reply.status, reply.text, reply.headers.get('x-sidecar-stale')]).toEqual([
    404,
    missing,
    'circuit_open',
  ]);
});

test.each(['%2e%2e', '..', '%2fetc%2fpasswd', '%00', '%252e%252e%252f', '%5c..', ''])(
  'no file is opened by the way of %j',
  async segment => {
    const { port, asked } = await opening(arriving(26));
    for (const path of [`${segment}/MLmodel`, `0/m-1/${segment}`, `0/${segment}/${segment}/x`]) {
      const reply = await sendBytes(port, bytesOf('GET', `/api/2.0/mlflow-artifacts/artifacts/${path}`));
      expect([path, reply.status]).toEqual([path, 400]);
      expect(members(reply)).toMatchObject({ error_code: 'INVALID_PARAMETER_VALUE' });
    }
    expect(asked).toEqual([]);
  },
);
