import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { call, faulty, post, problem, sendBytes, sidecar } from './support.ts';

const URI = 'models:/a/Production';
const LIMIT = 64 * 1024;

/** JSON of exactly this many bytes that asks for a model. */
function bodyOf(bytes: number): string {
  const body = JSON.stringify({ model_uri: URI });
  return body + ' '.repeat(bytes - body.length);
}

describe('bodies that are faulty', () => {
  test.each(['[]', 'null', '7', '"text"', 'true'])('a body that is %s', async body => {
    const { url } = await sidecar();
    const reply = await post(`${url}/v1/reload`, body);
    expect(problem(reply).detail).toBe('body: must be a JSON object');
    expect(reply.status).toBe(400);
  });

  test.each(['{', '{"model_uri":}', ' ', '{"a":NaN}', "{'a':1}"])('broken JSON: %s', async body => {
    const { url } = await sidecar();
    const reply = await post(`${url}/v1/reload?colour=red`, body);
    expect(reply.status).toBe(400);
    expect(faulty(reply)).toEqual(['body', 'colour']);
    expect(problem(reply).detail).toContain('body: is not JSON: ');
  });

  test('bytes that are not UTF-8', async () => {
    const { url } = await sidecar();
    const init = {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: Buffer.from([0x7b, 0xff, 0x7d]),
    };
    const reply = await call(`${url}/v1/reload`, init);
    expect(reply.status).toBe(400);
    expect(problem(reply).detail).toBe('body: is not UTF-8');
  });

  test.each([
    ['[', ']'],
    ['{"a":', '}'],
  ])('10,000 levels of %s, closed or not', async (opening, closing) => {
    const { url } = await sidecar();
    const open = opening.repeat(10_000);
    expect((await post(`${url}/v1/reload`, open)).status).toBe(400);
    expect((await post(`${url}/v1/reload`, `${open}1${closing.repeat(10_000)}`)).status).toBe(400);
  });

  test('10,000 levels under a known field', async () => {
    const { url } = await sidecar();
    const reply = await post(`${url}/v1/reload`, `{"model_uris":${'['.repeat(10_000)}${']'.repeat(10_000)}}`);
    expect(reply.status).toBe(400);
    expect(faulty(reply)).toEqual(['model_uris.0']);
  });
});

describe('a text of which its client did not say what it is', () => {
  const json = JSON.stringify({ model_uri: URI, force: true });
  const form = new URLSearchParams({ model_uri: URI, force: 'True' }).toString();
  const FORM_TYPE = 'application/x-www-form-urlencoded';
  const TYPES = [
    FORM_TYPE,
    'application/json',
    'text/plain; charset=utf-8',
    'application/octet-stream',
    undefined,
  ];
  test.each(TYPES.flatMap(type => [json, ` \n${json}`, form].map(text => [type, text])))(
    '%s: %j',
    async (type, text) => {
      const { url, requests } = await sidecar();
      const headers: Record<string, string> = type === undefined ? {} : { 'content-type': type };
      const reply = await call(`${url}/v1/reload`, {
        method: 'POST',
        body: Buffer.from(text ?? ''),
        headers,
      });
      expect(reply.status).toBe(200);
      expect(requests).toMatchObject([{ uri: { name: 'a' }, force: true }]);
    },
  );

  test('what is no object is told so, and what is no JSON', async () => {
    const { url } = await sidecar();
    for (const body of ['["a"]', '{"model_uri":']) {
      const reply = await call(`${url}/v1/reload`, { method: 'POST', body: Buffer.from(body) });
      expect([reply.status, faulty(reply)]).toEqual([400, ['body']]);
    }
  });
});

describe('bodies that are not read', () => {
  test('with a body of exactly 64 KiB', async () => {
    const { url } = await sidecar();
    expect((await post(`${url}/v1/reload`, bodyOf(LIMIT))).status).toBe(200);
  });

  test('a body of 64 KiB + 1 is refused with too_large', async () => {
    const { url } = await sidecar();
    const reply = await post(`${url}/v1/reload`, bodyOf(LIMIT + 1));
    expect(reply.status).toBe(413);
    expect(problem(reply)).toMatchObject({ code: 'too_large', status: 413 });
  });

  test('so is one that does not say how long it is', async () => {
    const { port } = await sidecar();
    const chunk = `${(0x1000).toString(16)}\r\n${' '.repeat(0x1000)}\r\n`;
    const head =
      'POST /v1/reload HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n';
    const reply = await sendBytes(
      port,
      `${head}Transfer-Encoding: chunked\r\n\r\n${chunk.repeat(17)}0\r\n\r\n`,
    );
    expect(reply.status).toBe(413);
  });

  const TYPES = ['text/json', 'multipart/form-data; boundary=x', 'application/xml', 'nonsense'];
  test.each(TYPES)('a body of type %s is refused with unsupported_media_type', async type => {
    const { url } = await sidecar();
    const reply = await post(`${url}/v1/reload`, { model_uri: URI }, { 'content-type': type });
    expect(reply.status).toBe(415);
    expect(problem(reply)).toMatchObject({ code: 'unsupported_media_type', status: 415 });
  });

  test.each(['iso-8859-1', '"UTF-16"', 'utf-7'])('so is one in %s', async charset => {
    const { url } = await sidecar();
    const reply = await post(`${url}/v1/reload`, '{}', {
      'content-type': `application/json; charset=${charset}`,
    });
    expect(reply.status).toBe(415);
  });

  test.each(['gzip', 'br', 'nonsense'])('so is one that is encoded by %s', async encoding => {
    const { url } = await sidecar();
    const reply = await post(`${url}/v1/reload`, '{}', { 'content-encoding': encoding });
    expect(reply.status).toBe(415);
    expect(problem(reply).detail).toContain('Content-Encoding');
  });
});

describe('whatever the body is, the answer is never a 5xx', () => {
  const ALLOWED = new Set([200, 202, 400, 413, 415, 501]);

  test('of any JSON', async () => {
    const { url } = await sidecar();
    const names = fc.constantFrom(
      'model_uri',
      'model_uris',
      'deadline_s',
      'mode',
      'async',
      'force',
      '__proto__',
      'x',
    );
    const values = fc.oneof(fc.jsonValue(), fc.constantFrom(URI, 'models:/a@b', 1, true, 'async', 'fail'));
    const bodies = fc.oneof(fc.jsonValue(), fc.dictionary(names, values));
    await fc.assert(
      fc.asyncProperty(bodies, async body => {
        const reply = await post(`${url}/v1/reload`, JSON.stringify(body));
        expect(ALLOWED).toContain(reply.status);
        if (reply.status === 400) expect(faulty(reply).length).toBeGreaterThan(0);
      }),
      { numRuns: 300 },
    );
  });

  test('of any bytes, type and query', async () => {
    const { url } = await sidecar();
    const types = fc.constantFrom(
      'application/json',
      'application/x-www-form-urlencoded',
      'application/json; charset=',
      'x',
    );
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), types, fc.string(), async (bytes, type, query) => {
        const init = { method: 'POST', headers: { 'content-type': type }, body: Buffer.from(bytes) };
        const reply = await call(`${url}/v1/reload?${encodeURI(query.toWellFormed())}`, init);
        expect(ALLOWED).toContain(reply.status);
      }),
      { numRuns: 300 },
    );
  });

  test('of any name in the path', async () => {
    const { url } = await sidecar();
    await fc.assert(
      fc.asyncProperty(fc.string({ unit: 'grapheme', minLength: 1 }), async name => {
        const reply = await post(`${url}/v1/models/${encodeURIComponent(name.toWellFormed())}/reload`, {
          version: 1,
        });
        expect([200, 400, 404, 405]).toContain(reply.status);
      }),
      { numRuns: 200 },
    );
  });
});
