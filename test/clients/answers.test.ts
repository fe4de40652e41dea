import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { OutcomeSchema } from '../../src/domain/outcome.ts';
import { modelFiles, reload, wrongFiles } from '../faults/harness.ts';
import { atMost } from '../support/limits.ts';
import { ScriptedMlflow } from '../support/scripted-mlflow.ts';
import { type RunningSidecar, startSidecar } from '../support/sidecar.ts';
import { type Answered, type Call, startCaller } from './python.ts';
import { answer, oddServer } from './servers.ts';

const URI = 'models:/churn/Production';

let upstream: ScriptedMlflow;
let sidecar: RunningSidecar;

beforeAll(async () => {
  upstream = await ScriptedMlflow.start();
  upstream.addVersion({
    name: 'churn',
    stage: 'Production',
    aliases: ['champion'],
    files: modelFiles('churn-1'),
  });
  sidecar = await startSidecar({
    ...upstream.env,
    SIDECAR_TOKEN: 't0ken',
    SIDECAR_MODELS: `${URI},models:/churn@champion`,
    SIDECAR_ALLOW: 'models:/churn*,models:/nobody*,models:/crowd*',
  });
});

afterAll(async () => {
  await sidecar.stop();
  await upstream.close();
});

const env = () => ({ SIDECAR_URL: sidecar.url, SIDECAR_TOKEN: 't0ken', SIDECAR_CACHE_DIR: '/nowhere' });

function ask(call: Call, more: Readonly<Record<string, string>> = {}): Promise<Answered> {
  return startCaller({ ...env(), ...more }).call(call);
}

describe('model_path', () => {
  test('gives the directory, and says nothing', async () => {
    const answered = await ask({ arguments: [URI] });
    expect(answered).toMatchObject({ error: null, log: [] });
    const more = { headers: { authorization: 'Bearer t0ken' } };
    expect((await reload(sidecar.url, URI, {}, more)).outcome.path).toBe(answered.value);
    expect(await wrongFiles(String(answered.value), modelFiles('churn-1'))).toEqual([]);
  });

  test('raises what the sidecar says where there is no model', async () => {
    const { error, log } = await ask({ arguments: ['models:/nobody/Production'] });
    expect(error).toMatchObject({ type: 'ModelUnavailable', code: 'model_not_found' });
    expect(error?.text).toMatch(/^model_not_found: .*nobody/);
    expect(log).toEqual([]);
  });

  test('says where to mount the cache if the directory is not there', async () => {
    const { outcome } = await reload(sidecar.url, URI, {}, { headers: { authorization: 'Bearer t0ken' } });
    const models = [{ ...outcome, path: '/elsewhere/v1/snapshots/0123' }];
    const body = JSON.stringify({ status: outcome.status, models, duration_s: 0 });
    const server = await oddServer(answer(200, 'application/json', body));
    const { error } = await ask({ arguments: [URI] }, { SIDECAR_URL: server.url });
    expect(error).toMatchObject({
      type: 'CacheNotMounted',
      text: expect.stringMatching(
        /^The sidecar gives \/elsewhere\/v1\/snapshots\/0123, .* mount its cache at the same path/,
      ),
    });
  });
});

describe('a refusal is raised, and nothing given instead:', () => {
  const cases: Readonly<Record<string, readonly [Call, Readonly<Record<string, string>>]>> = {
    invalid_request: [{ arguments: ['churn'] }, {}],
    'invalid_request ': [{ arguments: [URI], options: { deadline_s: 1_000 } }, {}],
    not_allowed: [{ arguments: ['models:/other/1'] }, {}],
    unauthorized: [{ arguments: [URI] }, { SIDECAR_TOKEN: 'wrong' }],
    not_found: [{ arguments: [URI] }, { SIDECAR_URL: 'prefix' }],
  };

  test.for(Object.entries(cases))('%s', async ([code, [call, more]]) => {
    const url = more['SIDECAR_URL'] === undefined ? sidecar.url : `${sidecar.url}/prefix/`;
    const answered = await ask(call, { ...more, SIDECAR_URL: url, SIDECAR_CACHE_DIR: sidecar.cacheDir });
    expect(answered).toMatchObject({ error: { type: 'SidecarRefused', code: code.trim() }, log: [] });
    expect(answered.s * 1_000).toBeLessThan(atMost(2_000));
  });
});

describe('reload', () => {
  const outcomesOf = ({ value, error }: Answered) => {
    expect(error).toBeNull();
    return OutcomeSchema.array().parse(value);
  };

  test('gives the outcomes of the models that it is given, failed ones too', async () => {
    const uris = ['models:/churn/1', 'models:/nobody/1', 'models:/churn/01'];
    const outcomes = outcomesOf(await ask({ function: 'reload', arguments: uris }));
    expect(outcomes.map(({ model_uri, version, warning }) => [model_uri, version, warning?.code])).toEqual([
      ['models:/churn/1', '1', undefined],
      ['models:/nobody/1', null, 'version_not_found'],
    ]);
  });

  test('has a type that names every field of an outcome', async () => {
    const { value } = await ask({ function: 'outcome_fields' });
    expect(value).toEqual(Object.keys(OutcomeSchema.shape).sort());
  });

  test('without any, of all that are configured', async () => {
    const outcomes = outcomesOf(await ask({ function: 'reload' }));
    expect(outcomes.map(outcome => outcome.model_uri)).toEqual([URI, 'models:/churn@champion']);
  });

  test('by force, downloads again', async () => {
    const before = upstream.counts('route').get('file') ?? 0;
    const [outcome] = outcomesOf(
      await ask({ function: 'reload', arguments: [URI], options: { force: true } }),
    );
    expect(outcome).toMatchObject({ status: 'loaded', source: 'mlflow' });
    expect(upstream.counts('route').get('file')).toBe(before + 3);
  });

  test('raises SidecarUnavailable where none answers', async () => {
    const answered = await ask({ function: 'reload' }, { SIDECAR_URL: 'http://127.0.0.1:1' });
    expect(answered).toMatchObject({ error: { type: 'SidecarUnavailable' }, log: [] });
    expect(answered.error?.text).toMatch(
      /^The sidecar at http:\/\/127\.0\.0\.1:1 does not answer \(ConnectionRefusedError.*\)\.$/,
    );
  });
});

test('50 calls at once from five processes, cold: one download, and one directory for all', async () => {
  const made = upstream.addVersion({ name: 'crowd', stage: 'Production', files: modelFiles('crowd-1') });
  await upstream.setFault('file', { kind: 'delay', ms: 300 });
  const call = { function: 'ten_paths', arguments: ['models:/crowd/Production'] };
  const answers = await Promise.all(Array.from({ length: 5 }, () => ask(call)));
  await upstream.clearFaults();
  const paths = answers.flatMap(({ value }) => value);
  expect(paths).toHaveLength(50);
  expect(new Set(paths).size).toBe(1);
  expect(await wrongFiles(String(paths[0]), modelFiles('crowd-1'))).toEqual([]);
  const fetched = [...upstream.counts('file')].filter(([path]) => path.startsWith(made.root));
  expect(fetched.map(([, times]) => times)).toEqual([1, 1, 1]);
});

// The last one: the sidecar remembers for 10 s that MLflow is slow.
test('model_path gives the last good one, and warns why, while MLflow does not answer', async () => {
  const fresh = await ask({ arguments: [URI] });
  await upstream.setFault('registry', { kind: 'silent' });
  const stale = await ask({ arguments: [URI], options: { deadline_s: 5 } });
  const tooOld = await ask({ arguments: [URI], options: { deadline_s: 5, max_stale_s: 0 } });
  await upstream.clearFaults();
  expect(stale.value).toBe(fresh.value);
  expect(stale.log).toEqual([
    expect.stringMatching(
      /^WARNING models:\/churn\/Production: mlflow_timeout: .+\. The last good version 1, confirmed by MLflow [\d.]+ s ago, is given\.$/,
    ),
  ]);
  expect(tooOld).toMatchObject({ error: { type: 'ModelUnavailable' }, log: [] });
});
