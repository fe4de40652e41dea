import { describe, expect, test } from 'vitest';
import { LocalFiles } from '../../src/artifacts/local-files.ts';
import { MlflowArtifacts } from '../../src/artifacts/mlflow-artifacts.ts';
import { selectSource } from '../../src/artifacts/select.ts';
import type { ArtifactSource } from '../../src/artifacts/source.ts';
import { EventBus } from '../../src/domain/events.ts';
import { clientFor } from '../upstream/support.ts';

const API = '/api/2.0/mlflow-artifacts/artifacts';

async function select(
  root: string,
  trackingUri = 'http://mlflow:5000',
  fileRoots: readonly string[] = [],
): Promise<ArtifactSource> {
  const client = await clientFor({ trusted: [trackingUri] });
  return selectSource(root, { client, events: new EventBus(), trackingUri, fileRoots });
}

describe('MLflow’s own artifact server', () => {
  test.each([
    ['mlflow-artifacts:/0/models/m-1/artifacts', `http://mlflow:5000${API}/0/models/m-1/artifacts`],
    ['mlflow-artifacts:///0/x', `http://mlflow:5000${API}/0/x`],
    ['mlflow-artifacts:/', `http://mlflow:5000${API}`],
    ['mlflow-artifacts://other/0/x', `http://other${API}/0/x`],
    ['mlflow-artifacts://other:8080/0/x', `http://other:8080${API}/0/x`],
    ['mlflow-artifacts:/0/a b/100%/é', `http://mlflow:5000${API}/0/a b/100%/é`],
    ['mlflow-artifacts:/0/a#b?c', `http://mlflow:5000${API}/0/a#b?c`],
    [`http://proxy:5080${API}/0/x`, `http://proxy:5080${API}/0/x`],
    [`https://proxy/prefix${API}/0/a%20b`, `https://proxy/prefix${API}/0/a b`],
    [`HTTP://proxy${API}/0/`, `http://proxy${API}/0`],
  ])('%s', async (root, expected) => {
    const source = await select(root);
    expect(source).toBeInstanceOf(MlflowArtifacts);
    expect(source.root).toBe(expected);
  });

  test('is below the path prefix of the tracking server', async () => {
    expect((await select('mlflow-artifacts:/0/x', 'https://gateway/mlflow')).root).toBe(
      `https://gateway/mlflow${API}/0/x`,
    );
  });
});

describe('a root that would leave the artifacts is unsafe_path', () => {
  test.each([
    'mlflow-artifacts:/0/../../mlflow/runs/delete',
    'mlflow-artifacts:/..',
    'mlflow-artifacts:/0/./x',
    'mlflow-artifacts:/0/a\\b',
    'mlflow-artifacts:/0/a\0b',
    `http://proxy${API}/0/a%2Fb`,
    `http://proxy${API}/0/a%5Cb`,
    `http://proxy${API}/0/%00`,
    `http://proxy${API}/0/%zz`,
    `http://proxy${API}/0/..%2f..%2fx`,
  ])('%j', async root => {
    await expect(select(root)).rejects.toMatchObject({ code: 'unsafe_path' });
  });
});

describe('a root that cannot be fetched from is unsupported_scheme', () => {
  test.each([
    's3://bucket/path',
    'gs://bucket/path',
    'wasbs://c@account.blob.core.windows.net/x',
    'dbfs:/x',
    'ftp://host/x',
    'models:/churn/1',
    'runs:/abc/model',
    'relative/path',
    '',
    'file:///models/x',
    '/models/x',
    'http://mlflow/somewhere/else',
    `http://proxy${API}/../../mlflow/runs/delete`,
    `http://proxy${API}/%2e%2e/%2e%2e/mlflow/runs/delete`,
    `http://anna:secret@proxy${API}/0/x`,
    `http://proxy${API}/0/x?path=..`,
    'http://',
    'mlflow-artifacts://[bad/x',
  ])('%j', async root => {
    await expect(select(root)).rejects.toMatchObject({ code: 'unsupported_scheme' });
  });

  test('and says what to do', async () => {
    await expect(select('s3://bucket/x')).rejects.toMatchObject({
      hint: expect.stringContaining('--serve-artifacts'),
    });
    await expect(select('file:///x')).rejects.toMatchObject({
      hint: expect.stringContaining('SIDECAR_FILE_ROOTS'),
    });
  });

  test('and shows no credential', async () => {
    for (const root of [
      's3://key:secret@bucket/x',
      `http://anna:secret@proxy${API}/0/x`,
      's3://bucket/x?token=secret#secret',
    ]) {
      const error: unknown = await select(root).catch((thrown: unknown) => thrown);
      expect(error).toMatchObject({ message: expect.not.stringContaining('secret') });
    }
  });
});

describe('a local directory, where some may be read', () => {
  test.each([
    ['file:///models/a%20b', '/models/a b'],
    ['file:/models/x', '/models/x'],
    ['FILE:///models/x', '/models/x'],
    ['file://localhost/models/x', '/models/x'],
    ['/models/100%', '/models/100%'],
  ])('%s', async (root, path) => {
    const source = await select(root, 'http://mlflow:5000', ['/models']);
    expect(source).toBeInstanceOf(LocalFiles);
    expect(source.root).toBe(path);
  });

  test.each(['file://elsewhere/models/x', 'file:///models/a%2Fb'])('not %s', async root => {
    await expect(select(root, 'http://mlflow:5000', ['/models'])).rejects.toMatchObject({
      code: 'unsupported_scheme',
    });
  });
});
