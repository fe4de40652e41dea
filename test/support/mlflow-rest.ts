import { z } from 'zod';
import type { Registered } from './real-mlflow.ts';

/** What tests ask of a real MLflow server directly, beside what its own client did. */
export interface MlflowRest {
  setAlias(name: string, alias: string, version: string): Promise<void>;
  /** Registers a model that was trained before under another name, new or not; gives the number of the version. */
  createVersion(name: string, of: Registered): Promise<string>;
  /** Deletes the model with all its versions; numbers start again at 1. */
  deleteModel(name: string): Promise<void>;
}

const CreatedSchema = z.object({ model_version: z.object({ version: z.string() }) });
const DownloadUriSchema = z.object({ artifact_uri: z.string() });

export function mlflowRest(url: string): MlflowRest {
  const send = (method: string, path: string, fields: Readonly<Record<string, string>>) =>
    ask(`${url}/api/2.0/mlflow/${path}`, {
      method,
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(fields),
    });
  const downloadUri = async (name: string, version: string) => {
    const query = new URLSearchParams({ name, version }).toString();
    const found = await ask(`${url}/api/2.0/mlflow/model-versions/get-download-uri?${query}`, {});
    return DownloadUriSchema.parse(found).artifact_uri;
  };
  return {
    async setAlias(name, alias, version) {
      await send('POST', 'registered-models/alias', { name, alias, version });
    },
    async createVersion(name, { name: from, version, run_id, model_id }) {
      const logged =
        model_id === null
          ? { source: await downloadUri(from, version) }
          : { source: `models:/${model_id}`, model_id };
      await send('POST', 'registered-models/create', { name });
      const created = await send('POST', 'model-versions/create', { name, run_id, ...logged });
      return CreatedSchema.parse(created).model_version.version;
    },
    async deleteModel(name) {
      await send('DELETE', 'registered-models/delete', { name });
    },
  };
}

/** A model that is there already is as good as one that was created. */
async function ask(url: string, init: RequestInit): Promise<unknown> {
  const response = await fetch(url, init);
  const text = await response.text();
  if (!response.ok && !text.includes('RESOURCE_ALREADY_EXISTS')) {
    throw new Error(`${url} answered ${response.status}: ${text}`);
  }
  return JSON.parse(text);
}
