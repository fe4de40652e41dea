import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { SidecarError } from '../../src/domain/errors.ts';
import { parseModelUri } from '../../src/domain/model-uri.ts';
import { versionKey } from '../../src/domain/version.ts';
import { type Answer, answered } from '../../src/proxy/answer.ts';
import { LoggedModelAnswer, versionOfLogged } from '../../src/registry/answers.ts';
import { Refusal } from '../../src/upstream/failure.ts';
import type { JsonAnswer } from '../../src/upstream/json.ts';
import { asking } from '../registry/support.ts';
import { ManualClock } from '../reload/support.ts';
import { fetched, OWN } from '../store/support.ts';
import { atMost } from '../support/limits.ts';
import { call, serve } from '../upstream/support.ts';
import { ASKER, json, openCache, questionsTo, read, refused } from './support.ts';

const SEARCH = read('registered-models/search', { max_results: 5 });
const ALIAS = read('registered-models/alias', { name: 'churn', alias: 'champion' });

function versionAnswer(name: string, version: string, aliases: readonly string[] = []): object {
  return { model_version: { name, version, aliases } };
}

function runAnswer(id: string): object {
  return { run: { info: { run_id: id, experiment_id: '0', artifact_uri: 'mlflow-artifacts:/0/x' } } };
}

const never = () => new Promise<JsonAnswer>(() => undefined);

describe('while MLflow answers', () => {
  test('it is asked each time, and its own words are given', async () => {
    let n = 0;
    const { questions } = await questionsTo({ clock: new ManualClock(), ask: async () => json({ n: n++ }) });
    await expect(questions.answer(SEARCH, ASKER)).resolves.toMatchObject({
      text: '{"n":0}',
      stale: null,
      ageS: null,
    });
    await expect(questions.answer(SEARCH, ASKER)).resolves.toMatchObject({
      text: '{"n":1}',
      source: 'mlflow',
    });
  });

  test('within the time of being fresh it is not asked again, and after a change it is', async () => {
    let n = 0;
    const clock = new ManualClock();
    const { questions, kept } = await questionsTo({
      clock,
      ask: async () => json({ n: n++ }),
      freshMs: 5_000,
    });
    await questions.answer(SEARCH, ASKER);
    clock.advance(4_900);
    await expect(questions.answer(SEARCH, ASKER)).resolves.toMatchObject({
      text: '{"n":0}',
      source: 'kept',
      ageS: 4,
    });
    clock.advance(100);
    await expect(questions.answer(SEARCH, ASKER)).resolves.toMatchObject({ text: '{"n":1}' });
    clock.advance(1);
    kept.expire(null);
    await expect(questions.answer(SEARCH, ASKER)).resolves.toMatchObject({ text: '{"n":2}' });
  });

  test.each([
    ['registered-models/get', { name: 'churn' }, { registered_model: { name: 'other' } }],
    ['registered-models/alias', { name: 'churn', alias: 'a' }, versionAnswer('other', '1')],
    ['registered-models/alias', { name: 'churn', alias: 'a' }, versionAnswer('churn', '1', ['b'])],
    ['model-versions/get', { name: 'churn', version: '3' }, versionAnswer('churn', '4')],
    ['runs/get', { run_id: 'abc' }, runAnswer('def')],
    ['logged-models/m-1', {}, { model: { info: { model_id: 'm-2', artifact_uri: 'x:/y' } } }],
  ])('another’s answer to %s is given to nobody, and nothing is kept of it', async (route, fields, body) => {
    const { questions, kept } = await questionsTo({ clock: new ManualClock(), ask: async () => json(body) });
    const asked = read(route, fields);
    await expect(questions.answer(asked, ASKER)).rejects.toMatchObject({
      code: 'mlflow_error',
      message: expect.stringMatching(/was asked for .* is of "/),
    });
    expect(await kept.last(OWN, asked.key, 1_000)).toBeNull();
    kept.keepHeard(OWN, asked.question, json(body));
    expect(await kept.last(OWN, asked.key, 1_000)).toBeNull();
  });

  test.each([
    ['registered-models/alias', { name: 'Churn', alias: 'A' }, versionAnswer('churn', '1', ['a'])],
    ['registered-models/alias', { name: 'caf\u00e9', alias: 'a' }, versionAnswer('cafe\u0301', '1')],
    ['model-versions/get', { name: 'churn', version: '03' }, versionAnswer('churn', '3')],
  ])('%s may be answered in other letters', async (route, fields, body) => {
    const { questions } = await questionsTo({ clock: new ManualClock(), ask: async () => json(body) });
    await expect(questions.answer(read(route, fields), ASKER)).resolves.toMatchObject({ status: 200 });
  });

  test.each([400, 404])('its %d is given, and what was kept is not given any more', async status => {
    let answer = json({ a: 1 });
    const clock = new ManualClock();
    const stand = await questionsTo({ clock, ask: async () => answer });
    await stand.questions.answer(SEARCH, ASKER);
    answer = json({ error_code: 'NO', message: 'gone' }, status);
    await expect(stand.questions.answer(SEARCH, ASKER)).resolves.toMatchObject({ status, stale: null });
    await expect(stand.kept.last(OWN, SEARCH.key, 1_000)).resolves.toBeNull();
  });

  test('another 4xx of its own passes unchanged', async () => {
    const said = { status: 409, text: '{"error_code":"X"}', contentType: 'application/json' };
    const refusal = new Refusal(new SidecarError('mlflow_error', 'HTTP 409'), said);
    const { questions } = await questionsTo({ clock: new ManualClock(), ask: () => Promise.reject(refusal) });
    await expect(questions.answer(SEARCH, ASKER)).resolves.toMatchObject(said);
  });
});

test('what was asked for before a change is not fresh after it', async () => {
  const clock = new ManualClock();
  let n = 0;
  const { questions, kept } = await questionsTo({
    clock,
    freshMs: 5_000,
    ask: async () => {
      clock.advance(10);
      if (n === 0) kept.expire(null);
      clock.advance(10);
      return json({ n: n++ });
    },
  });
  await questions.answer(SEARCH, ASKER);
  await expect(questions.answer(SEARCH, ASKER)).resolves.toMatchObject({ text: '{"n":1}', source: 'mlflow' });
  await expect(questions.answer(SEARCH, ASKER)).resolves.toMatchObject({ text: '{"n":1}', source: 'kept' });
});

describe('while MLflow does not answer', () => {
  test('the last answer is given with the reason and its age', async () => {
    const clock = new ManualClock();
    let isUp = true;
    const ask = async () => (isUp ? json({ a: 1 }) : Promise.reject(refused()));
    const { questions } = await questionsTo({ clock, ask });
    await questions.answer(SEARCH, ASKER);
    isUp = false;
    clock.advance(61_500);
    await expect(questions.answer(SEARCH, ASKER)).resolves.toMatchObject({
      text: '{"a":1}',
      stale: 'mlflow_unreachable',
      source: 'kept',
      ageS: 61,
    });
    clock.advance(3_600_000);
    await expect(questions.answer(SEARCH, ASKER)).rejects.toMatchObject({ code: 'mlflow_unreachable' });
  });

  test('an MLflow that hangs is waited for once; then it is asked in the background, once for each question', async () => {
    const clock = new ManualClock();
    let ask = async () => json({ a: 1 });
    const { questions, asked } = await questionsTo({ clock, ask: () => ask(), refreshWaitMs: 150 });
    await questions.answer(SEARCH, ASKER);
    ask = never;
    const first = performance.now();
    await expect(questions.answer(SEARCH, ASKER)).resolves.toMatchObject({ stale: 'mlflow_timeout' });
    expect(performance.now() - first).toBeGreaterThan(140);
    const next = performance.now();
    for (let i = 0; i < 100; i++) await questions.answer(SEARCH, ASKER);
    expect(performance.now() - next).toBeLessThan(atMost(140));
    expect(asked).toHaveLength(3);
    clock.advance(10_001);
    ask = async () => json({ a: 2 });
    await expect(questions.answer(SEARCH, ASKER)).resolves.toMatchObject({ text: '{"a":2}', stale: null });
  });

  test('nothing to give is why, and another credential’s answer is nothing', async () => {
    let isUp = true;
    const ask = async () => (isUp ? json({ a: 1 }) : Promise.reject(refused()));
    const { questions } = await questionsTo({ clock: new ManualClock(), ask });
    await questions.answer(SEARCH, ASKER);
    isUp = false;
    const other = { ...ASKER, scope: { id: 'another', own: false } };
    await expect(questions.answer(SEARCH, other)).rejects.toMatchObject({ code: 'mlflow_unreachable' });
  });

  test('where its own credential is refused the last answer is given, and a caller’s own is not borne with', async () => {
    const denied = new Refusal(new SidecarError('access_denied', 'HTTP 403'), {
      status: 403,
      text: '{"error_code":"PERMISSION_DENIED"}',
      contentType: 'application/json',
    });
    let isAllowed = true;
    const ask = async () => (isAllowed ? json({ a: 1 }) : Promise.reject(denied));
    const { questions } = await questionsTo({ clock: new ManualClock(), ask });
    const callers = {
      caller: { ...ASKER.caller, authorization: 'Bearer x' },
      scope: { id: 'callers', own: false },
    };
    await questions.answer(SEARCH, ASKER);
    await questions.answer(SEARCH, callers);
    isAllowed = false;
    await expect(questions.answer(SEARCH, ASKER)).resolves.toMatchObject({
      stale: 'access_denied',
      status: 200,
    });
    await expect(questions.answer(SEARCH, callers)).resolves.toMatchObject({ stale: null, status: 403 });
  });

  test('an alias means the version that is there, and not one that MLflow named since', async () => {
    const clock = new ManualClock();
    let isUp = true;
    const named = { model_version: { name: 'churn', version: '9', creation_timestamp: 1 } };
    const ask = async () => (isUp ? json(named) : Promise.reject(refused()));
    const { questions, cache } = await questionsTo({ clock, ask });
    const { refs } = cache.store();
    const uri = parseModelUri('models:/churn@champion');
    await refs.publish(OWN, uri, await fetched(cache.store(), '4'), refs.nextOrder(), clock.now());
    await expect(questions.answer(ALIAS, ASKER)).resolves.toMatchObject({ text: JSON.stringify(named) });
    isUp = false;
    const { text, stale } = await questions.answer(ALIAS, ASKER);
    expect(JSON.parse(text)).toMatchObject({
      model_version: { name: 'churn', version: '4', run_id: 'run-4', status: 'READY' },
    });
    expect(stale).toBe('mlflow_unreachable');
  });

  test('what was kept is there after a restart', async () => {
    const clock = new ManualClock();
    const model = read('registered-models/get', { name: 'churn' });
    const before = await questionsTo({ clock, ask: async () => json({ a: 1 }) });
    await before.questions.answer(model, ASKER);
    await delay(100);
    const after = await questionsTo({ clock, ask: () => Promise.reject(refused()), cache: before.cache });
    await expect(after.questions.answer(model, ASKER)).resolves.toMatchObject({
      text: '{"a":1}',
      stale: 'mlflow_unreachable',
    });
  });

  test('after MLflow’s “no” nothing old is given, not what is published either, until a reload says otherwise', async () => {
    const clock = new ManualClock();
    let ask = async () => json({ error_code: 'RESOURCE_DOES_NOT_EXIST', message: 'gone' }, 404);
    const { questions, cache } = await questionsTo({ clock, ask: () => ask() });
    const { refs } = cache.store();
    const uri = parseModelUri('models:/churn@champion');
    const published = await fetched(cache.store(), '4');
    await refs.publish(OWN, uri, published, refs.nextOrder(), clock.now());
    clock.advance(5_000);
    await expect(questions.answer(ALIAS, ASKER)).resolves.toMatchObject({ status: 404, stale: null });
    ask = () => Promise.reject(refused());
    await expect(questions.answer(ALIAS, ASKER)).rejects.toMatchObject({ code: 'mlflow_unreachable' });
    clock.advance(5_000);
    refs.confirm(OWN, uri, published.version, refs.nextOrder(), clock.now());
    clock.advance(5_000);
    await expect(questions.answer(ALIAS, ASKER)).resolves.toMatchObject({ stale: 'mlflow_unreachable' });
  });

  test('a caller whose credential was refused gets nothing old later', async () => {
    const callers = {
      caller: { ...ASKER.caller, authorization: 'Bearer x' },
      scope: { id: 'callers', own: false },
    };
    const denied = new Refusal(new SidecarError('access_denied', 'HTTP 401'), {
      status: 401,
      text: 'no',
      contentType: 'text/plain',
    });
    let ask = async () => json({ a: 1 });
    const { questions } = await questionsTo({ clock: new ManualClock(), ask: () => ask() });
    await questions.answer(SEARCH, callers);
    ask = () => Promise.reject(denied);
    await expect(questions.answer(SEARCH, callers)).resolves.toMatchObject({ status: 401 });
    ask = () => Promise.reject(refused());
    await expect(questions.answer(SEARCH, callers)).rejects.toMatchObject({ code: 'mlflow_unreachable' });
  });

  test('the sidecar’s own credential may be refused for a day', async () => {
    const denied = new Refusal(new SidecarError('access_denied', 'HTTP 401'), {
      status: 401,
      text: 'no',
      contentType: 'text/plain',
    });
    const clock = new ManualClock();
    let ask = async () => json({ a: 1 });
    const cache = await openCache(clock);
    const { questions } = await questionsTo({ clock, ask: () => ask(), cache, maxStaleMs: 7 * 86_400_000 });
    const { refs } = cache.store();
    const uri = parseModelUri('models:/churn@champion');
    await refs.publish(OWN, uri, await fetched(cache.store(), '4'), refs.nextOrder(), clock.now());
    await questions.answer(SEARCH, ASKER);
    ask = () => Promise.reject(denied);
    await expect(questions.answer(ALIAS, ASKER)).resolves.toMatchObject({ stale: 'access_denied' });
    expect(refs.get(OWN, uri).refusedAt).toBe(clock.now());
    clock.advance(23 * 3_600_000);
    await expect(questions.answer(SEARCH, ASKER)).resolves.toMatchObject({ stale: 'access_denied' });
    clock.advance(3_600_001);
    for (const asked of [SEARCH, ALIAS])
      await expect(questions.answer(asked, ASKER)).resolves.toMatchObject({ status: 401, stale: null });
  });

  test('MLflow’s own words are given where they name the version that is there', async () => {
    const clock = new ManualClock();
    const version = {
      name: 'churn',
      version: '4',
      creation_timestamp: 1,
      tags: [{ key: 'threshold', value: '0.7' }],
    };
    let ask = async () => json({ model_version: version });
    const { questions, cache } = await questionsTo({ clock, ask: () => ask() });
    const { refs } = cache.store();
    const uri = parseModelUri('models:/churn@champion');
    await refs.publish(OWN, uri, await fetched(cache.store(), '4'), refs.nextOrder(), clock.now());
    const exact = read('model-versions/get', { name: 'churn', version: '4' });
    for (const asked of [ALIAS, exact]) await questions.answer(asked, ASKER);
    ask = () => Promise.reject(refused());
    for (const asked of [ALIAS, exact]) {
      const { text, stale } = await questions.answer(asked, ASKER);
      expect([JSON.parse(text), stale]).toEqual([{ model_version: version }, 'mlflow_unreachable']);
    }
  });
});

test('MLflow’s word that a published version is the wanted one confirms it', async () => {
  const clock = new ManualClock();
  const stand = await questionsTo({
    clock,
    ask: async () =>
      json({
        model_version: {
          name: 'churn',
          version: '4',
          creation_timestamp: 1_731_358_595_004,
          current_stage: 'Production',
          run_id: 'run-4',
          source: 'mlflow-artifacts:/0/models/m-4/artifacts',
        },
      }),
  });
  const { refs } = stand.cache.store();
  const uri = parseModelUri('models:/churn@champion');
  await refs.publish(OWN, uri, await fetched(stand.cache.store(), '4'), refs.nextOrder(), clock.now());
  clock.advance(5_000);
  await stand.questions.answer(ALIAS, ASKER);
  expect(refs.get(OWN, uri).confirmedAt).toBe(clock.now());
  expect(stand.interests.meaning(OWN, 'churn', '4')).toEqual([uri]);
});

describe('an answer that is too long to be held', () => {
  const MODEL = read('logged-models/m-1');
  const CURVES = Array.from({ length: 20_000 }, (_, step) => ({
    key: 'loss',
    value: 0.5,
    step,
    model_id: 'm-1',
  }));
  const INFO = { model_id: 'm-1', artifact_uri: 'mlflow-artifacts:/0/models/m-1/artifacts', name: 'model' };
  const MODEL_INFO = LoggedModelAnswer.parse({ model: { info: INFO } }).model.info;
  const HELD = { root: [INFO.artifact_uri], version: versionKey(versionOfLogged(MODEL_INFO)) } as const;
  const LONG = JSON.stringify({ model: { info: INFO, data: { metrics: CURVES } } });

  /** Questions to a server that sends `text` to each of them. */
  async function passing(text: string) {
    const headers = { 'content-type': 'application/json', 'content-length': String(text.length) };
    const upstream = await serve(() => ({ headers, body: text }));
    const { client } = await asking(upstream.url, { tryTimeoutMs: 20_000 });
    return await questionsTo({
      clock: new ManualClock(),
      ask: (question, asked) => client.ask(question, asked),
      refreshWaitMs: 20_000,
    });
  }

  async function taken({ passing: body }: Answer): Promise<string> {
    const pieces: Buffer[] = [];
    for await (const piece of body?.body ?? []) pieces.push(Buffer.from(piece));
    return Buffer.concat(pieces).toString('utf8');
  }

  test('passes byte by byte, and what a load needs of it is learned and kept', async () => {
    const { questions, kept, interests } = await passing(LONG);
    const answer = await questions.answer(MODEL, ASKER);
    expect(answer).toMatchObject({ status: 200, text: '', passing: { length: LONG.length } });
    expect(interests.has(OWN, HELD)).toBe(false);
    expect(await taken(answer)).toBe(LONG);
    expect(interests.has(OWN, HELD)).toBe(true);
    const last = await kept.last(OWN, MODEL.key, 1_000);
    expect(JSON.parse(last?.text ?? '')).toEqual({ model: { info: INFO } });
  });

  test('of another model is cut before its end, and neither learned nor kept', async () => {
    const { questions, kept } = await passing(LONG.replace('"model_id":"m-1"', '"model_id":"m-2"'));
    const answer = await questions.answer(MODEL, ASKER);
    await expect(taken(answer)).rejects.toMatchObject({ code: 'mlflow_error', message: /"m-1".*"m-2"/ });
    await expect(kept.last(OWN, MODEL.key, 1_000)).resolves.toBeNull();
  });

  test('of a search passes, and nothing of it is read', async () => {
    const search = read('runs/search', { experiment_ids: ['0'] }, 'POST');
    const text = JSON.stringify({ runs: CURVES });
    const { questions, kept } = await passing(text);
    expect(await taken(await questions.answer(search, ASKER))).toBe(text);
    await expect(kept.last(OWN, search.key, 1_000)).resolves.toBeNull();
  });

  test('passes for 16 at once, and one that is left gives its place back', async () => {
    const { questions } = await passing(LONG);
    const answers = await Promise.all(Array.from({ length: 16 }, () => questions.answer(MODEL, ASKER)));
    await expect(questions.answer(MODEL, ASKER)).rejects.toMatchObject({ code: 'overloaded' });
    answers[0]?.passing?.close();
    const next = await questions.answer(MODEL, ASKER);
    for (const { passing: body } of [next, ...answers]) body?.close();
  });

  test('gives its place back where it comes too late for whoever asked', async () => {
    const upstream = await serve(() => ({ headers: { 'content-type': 'application/json' }, body: LONG }));
    const { client } = await asking(upstream.url, { tryTimeoutMs: 20_000 });
    const gate = Promise.withResolvers<void>();
    const late: Promise<JsonAnswer>[] = [];
    const clock = new ManualClock();
    const { questions, kept } = await questionsTo({
      clock,
      ask: (question, put) => {
        const answer = gate.promise.then(() => client.ask(question, put));
        late.push(answer);
        return answer;
      },
      refreshWaitMs: 20,
    });
    kept.keep(OWN, MODEL, answered('{"model":{"info":{}}}'), clock.now());
    for (let n = 0; n < 8; n++)
      await expect(questions.answer(MODEL, ASKER)).resolves.toMatchObject({ source: 'kept' });
    gate.resolve();
    await Promise.all(late);
    const next = await Promise.all(Array.from({ length: 16 }, () => client.ask(MODEL.question, call())));
    expect(next.map(({ passing: body }) => body === undefined)).toEqual(Array(16).fill(false));
    for (const { passing: body } of next) body?.close();
    await expect(kept.last(OWN, MODEL.key, 1_000)).resolves.toMatchObject({ source: 'kept' });
  });
});
