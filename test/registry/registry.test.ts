import { describe, expect, test } from 'vitest';
import { parseModelUri } from '../../src/domain/model-uri.ts';
import type { ModelVersion } from '../../src/domain/version.ts';
import { call } from '../upstream/support.ts';
import { asking, logged, mlflowWith, registered, scripted } from './support.ts';

const FILES = { MLmodel: 'x' };
const LATEST = 'registered-models/get-latest-versions';

async function resolve(url: string, uri: string) {
  const { registry } = await asking(url);
  return await registry.resolve(parseModelUri(uri), call());
}

async function resolvedFrom(answer: unknown, uri = 'models:/churn/Production') {
  const { url } = await mlflowWith({ [LATEST]: () => ({ body: answer }) });
  return await resolve(url, uri);
}

describe('every form names its version', () => {
  test.each([
    ['models:/churn/Production', '2'],
    ['models:/churn/production', '2'],
    ['models:/churn/Staging', '1'],
    ['models:/churn/None', '3'],
    ['models:/churn/latest', '3'],
    ['models:/churn@champion', '2'],
    ['models:/churn/1', '1'],
  ])('%s is version %s', async (uri, version) => {
    const upstream = await scripted();
    upstream.addVersion({ name: 'churn', files: FILES, stage: 'Staging' });
    upstream.addVersion({ name: 'churn', files: FILES, stage: 'Production', aliases: ['champion', 'best'] });
    upstream.addVersion({ name: 'churn', files: FILES });
    const resolution = await resolve(upstream.url, uri);
    expect(resolution).toMatchObject({ version: { name: 'churn', version }, root: null, fault: null });
    expect(upstream.requests).toHaveLength(1);
  });

  test('models:/m-<id> is the logged model, with its root', async () => {
    const upstream = await scripted();
    const { modelId, runId, createdMs, root } = upstream.addVersion({ name: 'churn', files: FILES });
    expect(await resolve(upstream.url, `models:/${modelId}`)).toEqual({
      version: {
        name: null,
        version: null,
        stage: null,
        aliases: [],
        runId,
        modelId,
        createdMs,
        source: `mlflow-artifacts:/${root}`,
      },
      root: [`mlflow-artifacts:/${root}`],
      isGrowing: false,
      logged: null,
      fault: null,
    });
  });

  test.each(['a b@c', '100 %', '模型 é', 'a&b=c#d?e+f', "it's", 'n'.repeat(260)])(
    'for a model of the name %j',
    async name => {
      const upstream = await scripted();
      upstream.addVersion({ name, files: FILES, stage: 'Production', aliases: ['a b&c'] });
      for (const ref of ['/Production', '@a b&c', '/1', '/latest']) {
        expect((await resolve(upstream.url, `models:/${name}${ref}`)).version).toMatchObject({
          name,
          version: '1',
        });
      }
    },
  );
});

test('everything that is told of a version is kept', async () => {
  const { version } = await resolvedFrom({ model_versions: [registered()] });
  expect(version).toEqual({
    name: 'churn',
    version: '3',
    stage: 'Production',
    aliases: ['champion'],
    runId: 'run-3',
    modelId: 'm-0123',
    createdMs: 1_731_358_595_123,
    source: 'models:/m-0123',
  } satisfies ModelVersion);
});

test('numbers may come as strings, and what is empty may be left out', async () => {
  const sparse = {
    name: 'churn',
    version: 3,
    creation_timestamp: '1731358595123',
    current_stage: 'Production',
  };
  expect((await resolvedFrom({ model_versions: [sparse] })).version).toEqual({
    name: 'churn',
    version: '3',
    stage: 'Production',
    aliases: [],
    runId: null,
    modelId: null,
    createdMs: 1_731_358_595_123,
    source: '',
  });
  const empty = registered({ run_id: '', source: 'dbfs:/x', aliases: [] });
  expect((await resolvedFrom({ model_versions: [empty] })).version).toMatchObject({
    runId: null,
    modelId: null,
  });
});

describe('of several versions', () => {
  const all = ['9', '10', '2'].map(version => registered({ version }));

  test('in one stage the highest counts, by number', async () => {
    expect((await resolvedFrom({ model_versions: all })).version.version).toBe('10');
  });

  test('latest is the highest of all stages', async () => {
    const staged = [
      registered({ version: '4', current_stage: 'None' }),
      registered({ version: '11', current_stage: 'Archived' }),
    ];
    expect(
      (await resolvedFrom({ model_versions: [...all, ...staged] }, 'models:/churn/latest')).version.version,
    ).toBe('11');
  });

  test('one of another stage than asked for does not count', async () => {
    const others = [registered({ version: '99', current_stage: 'Staging' }), registered({ version: '2' })];
    expect((await resolvedFrom({ model_versions: others })).version.version).toBe('2');
  });

  test('latest asks for no stage and a stage for its own', async () => {
    const upstream = await mlflowWith({ [LATEST]: () => ({ body: { model_versions: all } }) });
    await resolve(upstream.url, 'models:/churn/latest');
    await resolve(upstream.url, 'models:/churn/production');
    expect(upstream.asked.map(asked => JSON.parse(asked.body))).toEqual([
      { name: 'churn' },
      { name: 'churn', stages: ['Production'] },
    ]);
  });
});

describe('what is not there has its code', () => {
  test.each([
    ['models:/unknown/Production', 'model_not_found'],
    ['models:/unknown/latest', 'model_not_found'],
    ['models:/unknown@champion', 'model_not_found'],
    ['models:/unknown/1', 'version_not_found'],
    ['models:/churn/Production', 'no_version_in_stage'],
    ['models:/churn/canary', 'no_version_in_stage'],
    ['models:/churn@champion', 'alias_not_found'],
    ['models:/churn/99', 'version_not_found'],
    ['models:/m-99', 'not_found'],
    ['runs:/99/model', 'run_not_found'],
  ])('%s is %s', async (uri, code) => {
    const upstream = await scripted();
    upstream.addVersion({ name: 'churn', files: FILES, stage: 'Staging' });
    await expect(resolve(upstream.url, uri)).rejects.toMatchObject({
      code,
      hint: expect.stringMatching(/./),
    });
  });

  test.each(['Production', 'canary'])(
    'the hint for an empty or invalid stage says that it may be expected',
    async stage => {
      const upstream = await scripted();
      upstream.addVersion({ name: 'churn', files: FILES });
      await expect(resolve(upstream.url, `models:/churn/${stage}`)).rejects.toMatchObject({
        hint: `This may be expected if no model is in ${stage} stage yet.`,
      });
    },
  );

  test('a model without any version has no latest', async () => {
    await expect(resolvedFrom({}, 'models:/churn/latest')).rejects.toMatchObject({
      code: 'version_not_found',
    });
  });
});

describe('a version that is not ready', () => {
  test.each(['PENDING_REGISTRATION', 'FAILED_REGISTRATION'])('%s is named, with the fault', async status => {
    const broken = registered({ status, status_message: 'copying' });
    const { version, fault } = await resolvedFrom({ model_versions: [broken] });
    expect(version.version).toBe('3');
    expect(fault).toMatchObject({
      code: 'version_not_ready',
      message: expect.stringContaining(`${status}: copying`),
    });
  });

  test('is a logged model too', async () => {
    const model = logged({ status: 'LOGGED_MODEL_PENDING' });
    const { url } = await mlflowWith({ 'logged-models/m-0123': () => ({ body: { model } }) });
    expect((await resolve(url, 'models:/m-0123')).fault).toMatchObject({ code: 'version_not_ready' });
  });
});

describe('an answer that MLflow does not give is mlflow_error, naming the field', () => {
  test.each<[string, unknown]>([
    ['model_versions', { model_versions: 'none' }],
    ['model_versions.0.version', { model_versions: [registered({ version: '../3' })] }],
    ['model_versions.0.version', { model_versions: [registered({ version: -1 })] }],
    ['model_versions.0.name', { model_versions: [registered({ name: 7 })] }],
    ['model_versions.0.creation_timestamp', { model_versions: [registered({ creation_timestamp: 'soon' })] }],
    ['model_versions.0.aliases', { model_versions: [registered({ aliases: 'champion' })] }],
    ['model_versions.0.source', { model_versions: [registered({ source: 'x'.repeat(5_000) })] }],
  ])('%s', async (field, body) => {
    await expect(resolvedFrom(body)).rejects.toMatchObject({
      code: 'mlflow_error',
      message: expect.stringContaining(`(${field}: `),
    });
  });
});
