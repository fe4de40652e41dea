import { z } from 'zod';

const RunSchema = z.object({
  run: z.object({ info: z.object({ run_id: z.string(), artifact_uri: z.string() }) }),
});
const VersionSchema = z.object({ model_version: z.object({ version: z.string() }) });
const LoggedSchema = z.object({
  model: z.object({ info: z.object({ model_id: z.string(), artifact_uri: z.string() }) }),
});
const UriSchema = z.object({ artifact_uri: z.string() });
const ListingSchema = z.object({
  files: z.array(z.object({ path: z.string(), is_dir: z.boolean().optional() })).default([]),
});

/** Where something was logged, by its id. */
export interface Logged {
  readonly id: string;
  /** `mlflow-artifacts:/…` */
  readonly root: string;
}

/** Text by path. */
export type Texts = Readonly<Record<string, string>>;

/** What a training does on a real MLflow, without a Python for each of its steps. */
export class Training {
  readonly #url: string;

  constructor(url: string) {
    this.#url = url;
  }

  async startRun(): Promise<Logged> {
    const answer = await this.#send('POST', 'runs/create', { experiment_id: '0', start_time: Date.now() });
    const { run_id: id, artifact_uri: root } = RunSchema.parse(answer).run.info;
    return { id, root };
  }

  /** Ends a run, or resumes it. */
  async setStatus(run: Logged, status: 'FINISHED' | 'RUNNING'): Promise<void> {
    const ended = status === 'FINISHED' ? { end_time: Date.now() } : {};
    await this.#send('POST', 'runs/update', { run_id: run.id, status, ...ended });
  }

  /** MLflow 3 only. It is pending until it is finalized. */
  async startModel(name: string): Promise<Logged> {
    const answer = await this.#send('POST', 'logged-models', { experiment_id: '0', name });
    const { model_id: id, artifact_uri: root } = LoggedSchema.parse(answer).model.info;
    return { id, root };
  }

  async finalize(model: Logged): Promise<void> {
    await this.#send('PATCH', `logged-models/${model.id}`, {
      model_id: model.id,
      status: 'LOGGED_MODEL_READY',
    });
  }

  /** Overwrites what is at these paths. */
  async log(root: string, files: Texts): Promise<void> {
    for (const [path, body] of Object.entries(files)) {
      const at = `${root.replace(/^mlflow-artifacts:\//, '')}/${path}`;
      const response = await fetch(`${this.#url}/api/2.0/mlflow-artifacts/artifacts/${at}`, {
        method: 'PUT',
        body,
      });
      if (!response.ok) throw new Error(`PUT ${at}: ${response.status} ${await response.text()}`);
    }
  }

  /** The next version of a model, new or not. */
  async register(name: string, source: string, of: { run_id?: string; model_id?: string }): Promise<string> {
    await this.#send('POST', 'registered-models/create', { name });
    const answer = await this.#send('POST', 'model-versions/create', { name, source, ...of });
    return VersionSchema.parse(answer).model_version.version;
  }

  /** With all its versions: numbers start again at 1. */
  async deleteModel(name: string): Promise<void> {
    await this.#send('DELETE', 'registered-models/delete', { name });
  }

  async #send(method: string, path: string, fields: object): Promise<unknown> {
    const response = await fetch(`${this.#url}/api/2.0/mlflow/${path}`, {
      method,
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(fields),
    });
    const said = await response.text();
    if (!response.ok && !said.includes('RESOURCE_ALREADY_EXISTS'))
      throw new Error(`${method} ${path}: ${response.status} ${said}`);
    return JSON.parse(said);
  }
}

/** What a client gets of a version: of MLflow itself, or of the sidecar in its place. */
export async function loadVersion(base: string, name: string, version: string): Promise<Texts> {
  const query = new URLSearchParams({ name, version }).toString();
  const found = await json(`${base}/api/2.0/mlflow/model-versions/get-download-uri?${query}`);
  return await loadRoot(base, UriSchema.parse(found).artifact_uri);
}

/** Everything below an artifact root, listed level by level, as a client does. */
export async function loadRoot(base: string, root: string): Promise<Texts> {
  const address =
    /^https?:.*\/mlflow-artifacts\/artifacts\/(.*)$/.exec(root)?.[1] ??
    root.replace(/^mlflow-artifacts:\//, '');
  const top = decodeURIComponent(address);
  const artifacts = `${base}/api/2.0/mlflow-artifacts/artifacts`;
  const files: Record<string, string> = {};
  const visit = async (dir: string): Promise<void> => {
    const query = new URLSearchParams({ path: [top, dir].filter(Boolean).join('/') }).toString();
    for (const { path, is_dir: isDir } of ListingSchema.parse(await json(`${artifacts}?${query}`)).files) {
      const below = [dir, path].filter(Boolean).join('/');
      if (isDir === true) await visit(below);
      else files[below] = await text(`${artifacts}/${top}/${below}`);
    }
  };
  await visit('');
  return files;
}

async function json(url: string): Promise<unknown> {
  return JSON.parse(await text(url));
}

async function text(url: string): Promise<string> {
  const response = await fetch(url);
  const body = await response.text();
  if (!response.ok) throw new Error(`${url}: ${response.status} ${body}`);
  return body;
}
