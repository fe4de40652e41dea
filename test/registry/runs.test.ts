import { expect, test } from 'vitest';
import { parseModelUri } from '../../src/domain/model-uri.ts';
import { type Answer, call } from '../upstream/support.ts';
import { asking, logged, mlflowWith, scripted } from './support.ts';

const INFO = {
  run_id: 'run-3',
  experiment_id: '7',
  artifact_uri: 'mlflow-artifacts:/7/run-3/artifacts',
  start_time: '1731358590000',
  end_time: '1731358599000',
  status: 'FINISHED',
};

async function resolve(pages: readonly Answer[], uri = 'runs:/run-3/model') {
  let asked = 0;
  const upstream = await mlflowWith({
    'runs/get': () => ({ body: { run: { info: INFO, data: {} } } }),
    'logged-models/search': () => pages[Math.min(asked++, pages.length - 1)] ?? {},
  });
  const { registry } = await asking(upstream.url);
  const resolution = registry.resolve(parseModelUri(uri), call());
  const searches = () =>
    upstream.asked.filter(one => one.url.endsWith('/search')).map(one => JSON.parse(one.body));
  return { resolution, searches };
}

function page(models: readonly unknown[], next?: string): Answer {
  return { body: { models, ...(next === undefined ? {} : { next_page_token: next }) } };
}

const RUN_ROOT = 'mlflow-artifacts:/7/run-3/artifacts/model';
const MODEL_ROOT = 'mlflow-artifacts:/0/models/m-0123/artifacts';

test('a run’s artifacts are overlaid by the model of that name that it logged', async () => {
  const { resolution, searches } = await resolve([page([logged()])]);
  expect(await resolution).toMatchObject({
    version: {
      name: null,
      version: null,
      stage: null,
      aliases: [],
      runId: 'run-3',
      modelId: 'm-0123',
      createdMs: 1_731_358_595_123,
      endedMs: 1_731_358_599_000,
      source: RUN_ROOT,
    },
    root: [RUN_ROOT, MODEL_ROOT],
    isGrowing: false,
    logged: { version: { modelId: 'm-0123' }, root: [MODEL_ROOT] },
    fault: null,
  });
  expect(searches()).toMatchObject([{ experiment_ids: ['7'], filter: "name = 'model'" }]);
});

test('a path below the model is the same path below both', async () => {
  const { resolution } = await resolve([page([logged()])], 'runs:/run-3/model/data/x');
  expect((await resolution).root).toEqual([`${RUN_ROOT}/data/x`, `${MODEL_ROOT}/data/x`]);
});

test('a model of another run does not count', async () => {
  const { resolution } = await resolve([page([logged({ source_run_id: 'run-4' })])]);
  expect(await resolution).toMatchObject({
    root: [RUN_ROOT],
    version: { modelId: null, createdMs: 1_731_358_590_000 },
  });
});

test('a model of a name that was not asked for is another question’s answer', async () => {
  const { resolution } = await resolve([page([logged({ name: 'model2' })])]);
  await expect(resolution).rejects.toMatchObject({
    code: 'mlflow_error',
    message: expect.stringMatching(/"model".*"model2"/),
  });
});

test('the model is found on a later page', async () => {
  const others = Array.from({ length: 100 }, (_, n) => logged({ source_run_id: `other-${n}` }));
  const { resolution, searches } = await resolve([
    page(others, 'two'),
    page(others, 'three'),
    page([logged()]),
  ]);
  expect((await resolution).root).toEqual([RUN_ROOT, MODEL_ROOT]);
  expect(searches().map(body => body.page_token)).toEqual([undefined, 'two', 'three']);
});

test('pages that never end are given up', async () => {
  const { resolution, searches } = await resolve([page([], 'more')]);
  await expect(resolution).rejects.toMatchObject({
    code: 'mlflow_error',
    message: expect.stringContaining('do not end'),
  });
  expect(searches()).toHaveLength(100);
});

test('the last page’s token may be empty', async () => {
  const { resolution } = await resolve([page([], '')]);
  expect((await resolution).root).toEqual([RUN_ROOT]);
});

test('MLflow 2 has no logged models and answers with a page', async () => {
  const { resolution } = await resolve([
    { status: 404, headers: { 'content-type': 'text/html' }, body: '<h1>Not Found</h1>' },
  ]);
  expect(await resolution).toMatchObject({ root: [RUN_ROOT], version: { runId: 'run-3', modelId: null } });
});

test('a search that fails is no proof that there is no model', async () => {
  const { resolution } = await resolve([{ status: 500, body: 'oh' }]);
  await expect(resolution).rejects.toMatchObject({ code: 'mlflow_error' });
});

test('a name with a quote cannot be asked for and is no part of the filter', async () => {
  const { resolution, searches } = await resolve([page([logged()])], "runs:/run-3/it's");
  expect((await resolution).root).toEqual(["mlflow-artifacts:/7/run-3/artifacts/it's"]);
  expect(searches()).toEqual([]);
});

test('the root’s own slash at the end is not doubled', async () => {
  const upstream = await mlflowWith({
    'runs/get': () => ({ body: { run: { info: { ...INFO, artifact_uri: 's3://bucket/run-3/' } } } }),
  });
  const { registry } = await asking(upstream.url);
  const { root } = await registry.resolve(parseModelUri('runs:/run-3/model'), call());
  expect(root).toEqual(['s3://bucket/run-3/model']);
});

test('the whole way on a server that speaks MLflow 3', async () => {
  const upstream = await scripted();
  for (let n = 0; n < 120; n++) upstream.addVersion({ name: `other-${n}`, files: { MLmodel: 'x' } });
  const { runId, root } = upstream.addVersion({ name: 'churn', files: { MLmodel: 'x' } });
  const { registry } = await asking(upstream.url);
  const resolution = await registry.resolve(parseModelUri(`runs:/${runId}/model`), call());
  expect(resolution.root).toEqual([
    `mlflow-artifacts:/0/${runId}/artifacts/model`,
    `mlflow-artifacts:/${root}`,
  ]);
});
