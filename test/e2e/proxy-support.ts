import { expect } from 'vitest';
import { z } from 'zod';
import { type Environment, PythonClient } from '../support/python-client.ts';
import type { MlflowVersion } from '../support/real-mlflow.ts';
import { AWKWARD_NAME, RETRAINED_NAME, UNSTAGED_NAME } from './global-setup.ts';
import { servers } from './servers.ts';

export const TOPIC = 'topic-classification';
export const SENTIMENT = 'sentiment-analysis';
/** Each of another model, so that the cache has nothing of one that is loaded for the first time. */
export const NAMED = [
  `models:/${TOPIC}/Production`,
  `models:/${SENTIMENT}@champion`,
  `models:/${RETRAINED_NAME}/1`,
  `models:/${UNSTAGED_NAME}/latest`,
  // MLflow's client takes what follows the last "@" for an alias, so there is no other way to name it.
  `models:/${AWKWARD_NAME}@champion`,
] as const;

/** The same by their versions. */
export const NUMBERED = NAMED.map(uri => uri.replace(/[/@][^/@]+$/, '/1'));

const Catalog = z.object({
  models: z.array(z.object({ refs: z.array(z.object({ model_uri: z.string() })) })),
});

/** One of each version, which begin to import MLflow at once. */
export class PythonClients {
  readonly #all = new Map(servers.map(({ version }) => [version, new PythonClient(version)]));

  of(version: MlflowVersion): PythonClient {
    const client = this.#all.get(version);
    if (client === undefined) throw new Error(`There is no client of MLflow ${version}.`);
    return client;
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#all.values()].map(client => client.stop()));
  }
}

export function byTracking(url: string): Environment {
  return { MLFLOW_TRACKING_URI: url, MLFLOW_REGISTRY_URI: null };
}

/** The model URIs that a sidecar has published. */
export async function publishedAt(sidecarUrl: string): Promise<readonly string[]> {
  const response = await fetch(`${sidecarUrl}/v1/models`);
  const { models } = Catalog.parse(await response.json());
  return models.flatMap(({ refs }) => refs.map(ref => ref.model_uri));
}

/** What was asked of MLflow's artifact server, decoded. */
export function artifactsIn(requests: readonly string[]): readonly string[] {
  return requests.map(decodeURIComponent).filter(request => request.includes('/mlflow-artifacts/'));
}

/** That no file was asked for twice, and that they are of so many models; the files of so many of them once more, by another name. */
export function expectOnce(requests: readonly string[], models: number, again = 0): void {
  const files = artifactsIn(requests).filter(request => /\/(MLmodel|\w+\.\w+)$/.test(request));
  const ofModels = files.filter(request => request.endsWith('/MLmodel'));
  expect(new Set(ofModels).size).toBe(models);
  expect(ofModels.length).toBeLessThanOrEqual(models + again);
  if (again === 0) expect(files.toSorted()).toEqual([...new Set(files)].toSorted());
}
