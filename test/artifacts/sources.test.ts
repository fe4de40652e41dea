import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { LocalFiles } from '../../src/artifacts/local-files.ts';
import { MlflowArtifacts } from '../../src/artifacts/mlflow-artifacts.ts';
import { EventBus } from '../../src/domain/events.ts';
import { anArtifactSource } from '../contract/artifact-source.ts';
import { ScriptedMlflow } from '../support/scripted-mlflow.ts';
import { clientFor } from '../upstream/support.ts';
import { temporaryDirectory, writeFiles } from './support.ts';

anArtifactSource('MlflowArtifacts', async files => {
  const upstream = await ScriptedMlflow.start();
  onTestFinished(() => upstream.close());
  const { root } = upstream.addVersion({ name: 'churn', files });
  const client = await clientFor({ trusted: [upstream.artifactsUrl] });
  const endpoint = `${upstream.artifactsUrl}/api/2.0/mlflow-artifacts/artifacts`;
  return new MlflowArtifacts(client, new EventBus(), endpoint, root.split('/'));
});

anArtifactSource('LocalFiles', async files => {
  const dir = await temporaryDirectory();
  await writeFiles(join(dir, 'model'), files);
  return new LocalFiles(join(dir, 'model'), [dir]);
});
