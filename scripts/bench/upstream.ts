import { createReadStream } from 'node:fs';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { request } from 'undici';
import { z } from 'zod';
import { startMlflow } from '../../test/support/real-mlflow.ts';

export const MLFLOW = '3.17.2';
/** The Python that it is installed for. */
export const PYTHON = fileURLToPath(
  new URL(`../../.cache/venv/mlflow-${MLFLOW}/bin/python`, import.meta.url),
);
/** As `mlflow server` has it where nobody says otherwise. */
const MLFLOW_WORKERS = 4;

/** A body by artifact path: its bytes, or the file that holds them. */
export type Artifacts = ReadonlyMap<string, Buffer | { readonly file: string }>;

export interface RegisteredModel {
  /** The artifact URI. */
  readonly source: string;
  /** Where an artifact is downloaded from. */
  readonly address: (path: string) => string;
}

interface BenchUpstream {
  readonly url: string;
  /** Uploads the artifacts and registers them as version 1 of `name`, in Production. */
  register(name: string, artifacts: Artifacts): Promise<RegisteredModel>;
  readonly stop: () => void;
}

/** What a case works with. */
export interface Bench {
  readonly upstream: BenchUpstream;
  /** For whatever it writes. */
  readonly dir: string;
}

const UPLOADS_IN_FLIGHT = 8;

const Created = z.object({
  run: z.object({ info: z.object({ run_id: z.string(), artifact_uri: z.string() }) }),
});

export async function startUpstream(): Promise<BenchUpstream> {
  const { url, stop } = await startMlflow(MLFLOW, MLFLOW_WORKERS);
  const post = async (route: string, fields: Readonly<Record<string, string>>) =>
    await send(`${url}/api/2.0/mlflow/${route}`, 'POST', Buffer.from(JSON.stringify(fields)));
  return {
    url,
    stop,
    async register(name, artifacts) {
      const made = Created.parse(JSON.parse(await post('runs/create', { experiment_id: '0' })));
      const { run_id, artifact_uri: source } = made.run.info;
      const base = source.replace('mlflow-artifacts:', `${url}/api/2.0/mlflow-artifacts/artifacts`);
      await upload(artifacts, path => `${base}/${path}`);
      await post('registered-models/create', { name });
      await post('model-versions/create', { name, source, run_id });
      await post('model-versions/transition-stage', { name, version: '1', stage: 'Production' });
      return { source, address: path => `${base}/${path}` };
    },
  };
}

async function upload(artifacts: Artifacts, address: (path: string) => string): Promise<void> {
  const queue = artifacts.entries();
  const worker = async () => {
    for (const [path, content] of queue) {
      const body = Buffer.isBuffer(content) ? content : createReadStream(content.file);
      await send(address(path), 'PUT', body);
    }
  };
  await Promise.all(Array.from({ length: UPLOADS_IN_FLIGHT }, worker));
}

async function send(url: string, method: 'PUT' | 'POST', body: Buffer | Readable): Promise<string> {
  const headers = { 'content-type': method === 'POST' ? 'application/json' : 'application/octet-stream' };
  const answer = await request(url, { method, body, headers });
  const text = await answer.body.text();
  if (answer.statusCode >= 400) throw new Error(`${method} ${url} answered ${answer.statusCode}: ${text}`);
  return text;
}
