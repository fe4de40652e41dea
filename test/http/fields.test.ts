import { describe, expect, test } from 'vitest';
import { processorMs } from '../support/limits.ts';
import { call, faulty, form, post, problem, type Sidecar, sidecar } from './support.ts';

const URI = 'models:/a/Production';
describe('a request may come', () => {
  const ways: [string, (sidecar: Sidecar) => Promise<{ status: number; text: string }>][] = [
    ['as JSON', ({ url }) => post(`${url}/v1/reload`, { model_uri: URI, deadline_s: 7.5, force: true })],
    ['as a form', ({ url }) => form(`${url}/v1/reload`, `model_uri=${URI}&deadline_s=7.5&force=true`)],
    [
      'as a query',
      ({ url }) => call(`${url}/v1/reload?model_uri=${URI}&deadline_s=7.5&force=true`, { method: 'POST' }),
    ],
    [
      'in part as query, in part as body',
      ({ url }) => post(`${url}/v1/reload?deadline_s=7.5`, { model_uri: URI, force: true }),
    ],
    [
      'as some other JSON, in capitals and with a charset',
      ({ url }) =>
        post(
          `${url}/v1/reload`,
          { model_uri: URI, deadline_s: 7.5, force: true },
          {
            'content-type': 'Application/Vnd.X+JSON; Charset="UTF-8"',
          },
        ),
    ],
  ];
  test.each(ways)('%s', async (_way, send) => {
    const target = await sidecar();
    const reply = await send(target);
    expect(reply.status).toBe(200);
    const [request] = target.requests;
    expect(request).toMatchObject({ uri: { kind: 'stage', name: 'a', stage: 'Production' }, force: true });
    expect((request?.deadlineAt ?? 0) - (request?.startedAt ?? 0)).toBeCloseTo(7_500);
  });

  const types = [
    'application/json',
    'application/x-www-form-urlencoded',
    'image/png',
    'nonsense',
    'application/json; charset=latin1',
  ];
  test.each(types)('with an empty body of type %s', async type => {
    const { url } = await sidecar();
    const init = { method: 'POST', headers: { 'content-type': type }, body: '' };
    expect((await call(`${url}/v1/reload?model_uri=${URI}`, init)).status).toBe(200);
  });

  test('with no field at all: the settings are the defaults', async () => {
    const { url, requests } = await sidecar();
    await post(`${url}/v1/reload`, { model_uri: URI });
    const [request] = requests;
    expect((request?.deadlineAt ?? 0) - (request?.startedAt ?? 0)).toBeCloseTo(60_000);
    expect(request).toMatchObject({ refreshWaitMs: 2_000, maxStaleMs: 604_800_000, force: false });
  });

  test('with the refresh wait capped by the deadline', async () => {
    const { url, requests } = await sidecar();
    await post(`${url}/v1/reload`, {
      model_uri: URI,
      deadline_s: 0.1,
      refresh_wait_s: 1e300,
      max_stale_s: 0,
    });
    expect(requests[0]).toMatchObject({ refreshWaitMs: 100, maxStaleMs: 0 });
  });
});

describe('every fault is named', () => {
  test('of all fields at once, with what is allowed', async () => {
    const { url, requests } = await sidecar();
    const reply = await post(`${url}/v1/reload`, {
      model_uri: 'nonsense',
      deadline_s: 0.05,
      refresh_wait_s: -1,
      max_stale_s: '60',
      mode: 'later',
      async: 'yes',
      on_failure: null,
      force: 1,
      colour: 'red',
      'tw\no': 2,
    });
    expect(reply.status).toBe(400);
    expect(problem(reply)).toMatchObject({ code: 'invalid_request', status: 400, title: 'Bad Request' });
    const detail = [
      'colour: unknown field',
      '"tw\\no": unknown field',
      'model_uri: "nonsense" is not a model URI.',
      'deadline_s: must be a number of seconds, from 0.1 to 600',
      'refresh_wait_s: must be a number of seconds, at least 0',
      'max_stale_s: must be a number of seconds, at least 0',
      'mode: must be sync or async',
      'async: must be true or false',
      'on_failure: must be warn or fail',
      'force: must be true or false',
    ];
    expect(problem(reply).detail).toBe(detail.join('; '));
    expect(problem(reply).faults).toHaveLength(10);
    expect(problem(reply).hint).toBe(
      'The fields are: model_uri, model_uris, deadline_s, refresh_wait_s, max_stale_s, mode, async, on_failure, force.',
    );
    expect(requests).toEqual([]);
  });

  test('of the name, the path’s model and the fields together', async () => {
    const { url } = await sidecar();
    const reply = await post(`${url}/v1/models/a%2Fb/reload?force=maybe`, {
      model_uri: URI,
      stage: '',
      deadline_s: 601,
    });
    expect(reply.status).toBe(400);
    expect(faulty(reply)).toEqual(['deadline_s', 'force', 'model_uri', 'name', 'stage']);
  });

  test('of several URIs, each by its place', async () => {
    const { url } = await sidecar();
    const reply = await post(`${url}/v1/reload`, { model_uris: [URI, 'x', 7, 'models:/a/0'] });
    expect(faulty(reply)).toEqual(['model_uris.1', 'model_uris.2', 'model_uris.3']);
  });

  test('an own __proto__ key is an unknown field, and pollutes nothing', async () => {
    const { url } = await sidecar();
    const reply = await post(
      `${url}/v1/reload`,
      '{"model_uri":"models:/a/1","__proto__":{"force":true},"constructor":1}',
    );
    expect(reply.status).toBe(400);
    expect(faulty(reply)).toEqual(['__proto__', 'constructor']);
    expect(Object.hasOwn(Object.prototype, 'force')).toBe(false);
  });

  test('in forms and queries too __proto__ is unknown', async () => {
    const { url } = await sidecar();
    expect(faulty(await form(`${url}/v1/reload?__proto__=1`, 'toString=1'))).toEqual([
      '__proto__',
      'toString',
    ]);
  });

  test('thousands of unknown fields, each once and soon', async () => {
    const { url } = await sidecar();
    const body = Object.fromEntries(Array.from({ length: 6_000 }, (_, i) => [`x${i}`, 1]));
    const ms = await processorMs(async () => {
      expect(problem(await post(`${url}/v1/reload`, body)).faults).toHaveLength(6_000);
    });
    expect(ms).toBeLessThan(2_000);
  });

  test('a field given twice, in the body and the query', async () => {
    const { url } = await sidecar();
    const reply = await post(`${url}/v1/reload?deadline_s=3`, { model_uri: URI, deadline_s: 3 });
    expect(problem(reply).detail).toBe('deadline_s: is given both in the body and in the query');
  });

  test('a field given twice in a form', async () => {
    const { url } = await sidecar();
    expect(faulty(await form(`${url}/v1/reload`, `model_uri=${URI}&force=true&force=true`))).toEqual([
      'force',
    ]);
  });

  test('model_uri and model_uris together', async () => {
    const { url } = await sidecar();
    const reply = await post(`${url}/v1/reload?model_uris=${URI}`, { model_uri: URI });
    expect(problem(reply).detail).toBe(
      'model_uri, model_uris: only one of model_uri, model_uris may be given',
    );
  });

  test('two of stage, alias and version', async () => {
    const { url } = await sidecar();
    const reply = await post(`${url}/v1/models/a/reload`, { stage: 'Production', version: 3 });
    expect(faulty(reply)).toEqual(['stage, version']);
  });

  test.each([0, 101])('a list of %i URIs', async count => {
    const { url } = await sidecar();
    const reply = await post(`${url}/v1/reload`, {
      model_uris: Array.from({ length: count }, (_, i) => `models:/a/${i + 1}`),
    });
    expect(problem(reply).detail).toBe('model_uris: must be a list of 1 to 100 model URIs');
  });
});

describe('numbers and flags in forms and queries are taken strictly', () => {
  const WRONG = ['', ' 60', '60s', '0x10', '1e1', '1e999', 'NaN', 'Infinity', '-1', '601', '0', '1,5', '１'];
  test.each(WRONG)('deadline_s=%j is refused', async text => {
    const { url } = await sidecar();
    const reply = await form(
      `${url}/v1/reload`,
      new URLSearchParams({ model_uri: URI, deadline_s: text }).toString(),
    );
    expect(reply.status).toBe(400);
    expect(faulty(reply)).toEqual(['deadline_s']);
  });

  test.each(['', 'TRUE', '1', 'yes', 'on'])('force=%j is refused', async text => {
    const { url } = await sidecar();
    const reply = await call(`${url}/v1/reload?model_uri=${URI}&force=${text}`, { method: 'POST' });
    expect(faulty(reply)).toEqual(['force']);
  });

  test('in JSON a number that is too great to be one is refused', async () => {
    const { url } = await sidecar();
    const reply = await post(
      `${url}/v1/reload`,
      `{"model_uri":"${URI}","deadline_s":1e999,"max_stale_s":1e999}`,
    );
    expect(faulty(reply)).toEqual(['deadline_s', 'max_stale_s']);
  });

  test('false is false', async () => {
    const { url, requests } = await sidecar();
    expect((await form(`${url}/v1/reload`, `model_uri=${URI}&force=false&async=false`)).status).toBe(200);
    expect(requests[0]?.force).toBe(false);
  });
});
