import { mkdtempSync, rmSync } from 'node:fs';
import { rename, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';
import { atExit, exitOnSignals } from '../support/at-exit.ts';
import { MLFLOW_VERSIONS, type MlflowVersion, startMlflow, train } from '../support/real-mlflow.ts';
import type { Started } from './servers.ts';

/** Registered and promoted on every server, besides the two of the story. */
export const AWKWARD_NAME = 'churn @ night (v2)';
export const RETRAINED_NAME = 'retrained-model';
export const UNSTAGED_NAME = 'no-stage-model';

/**
 * One MLflow server of each version, with models that its own client trained, for as long as these tests run. They are
 * waited for where they are needed (servers.ts): meanwhile other tests go on.
 */
export default function setup(project: TestProject): () => Promise<void> {
  exitOnSignals();
  const dir = mkdtempSync(join(tmpdir(), 'mlflow-servers-'));
  const remove = atExit(() => rmSync(dir, { recursive: true, force: true }));
  const file = join(dir, 'started.json');
  project.provide('mlflowFile', file);
  const starting = startAll(file);
  return async () => {
    for (const stop of await starting) stop();
    remove();
  };
}

/** Says in `file` what came of it; gives what stops the servers. */
async function startAll(file: string): Promise<readonly (() => void)[]> {
  const results = await Promise.allSettled(MLFLOW_VERSIONS.map(startWithModels));
  const servers = results.flatMap(result => (result.status === 'fulfilled' ? [result.value] : []));
  const started: Started = {
    servers: servers.map(({ info }) => info),
    errors: results.flatMap(result => (result.status === 'rejected' ? [String(result.reason)] : [])),
  };
  await writeFile(`${file}.next`, JSON.stringify(started));
  await rename(`${file}.next`, file);
  return servers.map(({ stop }) => stop);
}

async function startWithModels(version: MlflowVersion) {
  const { url, pid, stop } = await startMlflow(version);
  const names = ['topic-classification', 'sentiment-analysis', AWKWARD_NAME, RETRAINED_NAME];
  const registered = await train(version, url, names, [UNSTAGED_NAME]);
  return { info: { version, url, pid, registered }, stop };
}
