import type { TestProject } from 'vitest/node';
import { exitOnSignals } from '../support/at-exit.ts';
import {
  MLFLOW_VERSIONS,
  type MlflowVersion,
  type Registered,
  startMlflow,
  train,
} from '../support/real-mlflow.ts';

/** Registered and promoted on every server, besides the two of the story. */
export const AWKWARD_NAME = 'churn @ night (v2)';
export const RETRAINED_NAME = 'retrained-model';
export const UNSTAGED_NAME = 'no-stage-model';

export interface ServerInfo {
  readonly version: MlflowVersion;
  readonly url: string;
  readonly pid: number;
  readonly registered: readonly Registered[];
}

declare module 'vitest' {
  interface ProvidedContext {
    readonly mlflow: readonly ServerInfo[];
  }
}

/** One MLflow server of each version, with models that its own client trained, for as long as these tests run. */
export default async function setup(project: TestProject): Promise<() => void> {
  exitOnSignals();
  const servers = await Promise.all(MLFLOW_VERSIONS.map(startWithModels));
  project.provide(
    'mlflow',
    servers.map(server => server.info),
  );
  return () => {
    for (const server of servers) server.stop();
  };
}

async function startWithModels(version: MlflowVersion) {
  const { url, pid, stop } = await startMlflow(version);
  const names = ['topic-classification', 'sentiment-analysis', AWKWARD_NAME, RETRAINED_NAME];
  const registered = await train(version, url, names, [UNSTAGED_NAME]);
  return { info: { version, url, pid, registered }, stop };
}
