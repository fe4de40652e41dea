import { describe, expect, test } from 'vitest';
import type { ModelVersion } from '../../src/domain/version.ts';
import { call } from '../upstream/support.ts';
import { asking, logged, mlflowWith, queryOf, registered } from './support.ts';

describe('where the artifacts are', () => {
  const VERSION: ModelVersion = {
    name: 'churn',
    version: '3',
    stage: null,
    aliases: [],
    runId: null,
    modelId: null,
    createdMs: 1,
    source: '',
  };

  async function locate(routes: Parameters<typeof mlflowWith>[0]) {
    const upstream = await mlflowWith(routes);
    const { registry } = await asking(upstream.url);
    return { upstream, root: registry.locate(VERSION, call()) };
  }

  function downloadUri(uri: string) {
    return { 'model-versions/get-download-uri': () => ({ body: { artifact_uri: uri } }) };
  }

  test.each([
    'mlflow-artifacts:/0/models/m-1/artifacts',
    's3://bucket/x',
    'file:///models/x',
    'https://mlflow/api',
  ])('is %s where MLflow says so', async uri => {
    const { root, upstream } = await locate(downloadUri(uri));
    expect(await root).toEqual([uri]);
    expect(upstream.asked.map(queryOf)).toEqual([{ name: 'churn', version: '3' }]);
  });

  test('is the logged model’s root where it is a models:/m-…', async () => {
    const { root } = await locate({
      ...downloadUri('models:/m-0123'),
      'logged-models/m-0123': () => ({ body: { model: logged() } }),
    });
    expect(await root).toEqual(['mlflow-artifacts:/0/models/m-0123/artifacts']);
  });

  test('is the run’s artifacts where it is a runs:/…, on a server without logged models', async () => {
    const info = { run_id: 'abc', experiment_id: '0', artifact_uri: 'mlflow-artifacts:/0/abc/artifacts' };
    const { root } = await locate({
      ...downloadUri('runs:/abc/model'),
      'runs/get': () => ({ body: { run: { info } } }),
    });
    expect(await root).toEqual(['mlflow-artifacts:/0/abc/artifacts/model']);
  });

  test('is followed through another registered version', async () => {
    const { root } = await locate({
      'model-versions/get-download-uri': asked => ({
        body: { artifact_uri: queryOf(asked)['name'] === 'churn' ? 'models:/base/7' : 's3://base/7' },
      }),
      'model-versions/get': () => ({ body: { model_version: registered({ name: 'base', version: '7' }) } }),
    });
    expect(await root).toEqual(['s3://base/7']);
  });

  test('is mlflow_error where it leads in a circle, after a few questions', async () => {
    const { root, upstream } = await locate({
      ...downloadUri('models:/churn/3'),
      'model-versions/get': () => ({ body: { model_version: registered() } }),
    });
    await expect(root).rejects.toMatchObject({
      code: 'mlflow_error',
      message: expect.stringContaining('circle'),
    });
    expect(upstream.asked.length).toBeLessThanOrEqual(12);
  });

  test.each(['models:/', 'models:/a/b/c', 'runs:/../x', 'models:/a\nb/1'])(
    'is mlflow_error where it is %j',
    async uri => {
      const { root } = await locate(downloadUri(uri));
      await expect(root).rejects.toMatchObject({
        code: 'mlflow_error',
        message: expect.stringContaining('no model URI'),
      });
    },
  );

  test('is version_not_found where the version is gone meanwhile', async () => {
    const { root } = await locate({
      'model-versions/get-download-uri': () => ({
        status: 404,
        body: { error_code: 'RESOURCE_DOES_NOT_EXIST', message: 'gone' },
      }),
    });
    await expect(root).rejects.toMatchObject({
      code: 'version_not_found',
      message: expect.stringContaining('gone'),
    });
  });

  test('is version_not_ready where it leads to a logged model that is not', async () => {
    const model = logged({ status: 'LOGGED_MODEL_UPLOAD_FAILED' });
    const { root } = await locate({
      ...downloadUri('models:/m-0123'),
      'logged-models/m-0123': () => ({ body: { model } }),
    });
    await expect(root).rejects.toMatchObject({ code: 'version_not_ready' });
  });
});
