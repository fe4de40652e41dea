import pLimit from 'p-limit';
import { Agent, request } from 'undici';
import { z } from 'zod';

/** As many as MLflow's own client downloads at a time on four cores. */
const FILES_AT_ONCE = 8;
const API = '/api/2.0/mlflow';
const ARTIFACTS = '/api/2.0/mlflow-artifacts/artifacts';

const Version = z.looseObject({ version: z.string(), current_stage: z.string() });
const LatestVersions = z.object({ model_versions: z.array(Version).default([]) });
const AliasVersion = z.object({ model_version: Version });
const DownloadUri = z.object({ artifact_uri: z.string() });
const Listing = z.object({ files: z.array(z.object({ path: z.string(), is_dir: z.boolean() })).default([]) });

/** A model as a client has it after a load. */
export interface LoadedModel {
  /** That resolution named. */
  readonly version: string;
  readonly files: ReadonlyMap<string, Buffer>;
}

/** An answer that ended a load. */
export class LoadFailed extends Error {
  /** Null where no whole answer came. */
  readonly status: number | null;

  constructor(what: string, status: number | null, text: string) {
    super(`${what}: ${status ?? 'no answer'} ${text}`);
    this.name = 'LoadFailed';
    this.status = status;
  }
}

/**
 * Loads a model as MLflow's Python client does: the same calls in the same order, and eight files at a time, all of which it asks for
 * even where one fails. It tries nothing again: any status but 200 ends it.
 * @param base address of MLflow, or of who stands in for it
 * @param uri `models:/name/stage`, `models:/name@alias` or `models:/name/version`
 * @throws LoadFailed; or the signal's reason
 */
export async function loadModel(base: string, uri: string, signal?: AbortSignal): Promise<LoadedModel> {
  const connections = new Agent();
  try {
    return await new Load(base, connections, signal ?? null).run(uri);
  } finally {
    await connections.destroy();
  }
}

class Load {
  readonly #base: string;
  readonly #connections: Agent;
  readonly #signal: AbortSignal | null;

  constructor(base: string, connections: Agent, signal: AbortSignal | null) {
    this.#base = base;
    this.#connections = connections;
    this.#signal = signal;
  }

  async run(uri: string): Promise<LoadedModel> {
    const [, name = '', alias, reference = ''] = /^models:\/([^/@]+)(?:@(.+)|\/(.+))$/.exec(uri) ?? [];
    const version = await this.#resolve(name, alias ?? null, reference);
    const root = await this.#locate(name, version);
    // The client asks whether it is a directory first.
    await this.#list(root, '');
    const paths = await this.#walk(root, '');
    const limit = pLimit(FILES_AT_ONCE);
    const got = await Promise.allSettled(paths.map(path => limit(() => this.#file(root, path))));
    const files = new Map<string, Buffer>();
    for (const one of got) {
      if (one.status === 'rejected') throw one.reason;
      files.set(...one.value);
    }
    return { version, files };
  }

  async #resolve(name: string, alias: string | null, reference: string): Promise<string> {
    const query = new URLSearchParams({ name, ...(alias === null ? {} : { alias }) }).toString();
    let version = reference;
    if (alias !== null) {
      const { model_version } = await this.#json(AliasVersion, `${API}/registered-models/alias?${query}`);
      version = model_version.version;
    } else if (!/^\d+$/.test(reference)) {
      version = await this.#latest(name, reference);
    }
    const model = new URLSearchParams({ name }).toString();
    await this.#json(z.looseObject({}), `${API}/registered-models/get?${model}`);
    return version;
  }

  async #latest(name: string, stage: string): Promise<string> {
    const answer = await this.#json(LatestVersions, `${API}/registered-models/get-latest-versions`, {
      name,
      stages: [stage],
    });
    const [newest] = answer.model_versions.map(({ version }) => version).toSorted((a, b) => +b - +a);
    if (newest === undefined) throw new LoadFailed(name, 200, `No versions with stage '${stage}' found.`);
    return newest;
  }

  /** Of the version's files, without a slash at its end. */
  async #locate(name: string, version: string): Promise<URL> {
    const query = new URLSearchParams({ name, version }).toString();
    const { artifact_uri } = await this.#json(DownloadUri, `${API}/model-versions/get-download-uri?${query}`);
    return new URL(artifact_uri.replace(/^mlflow-artifacts:\//, `${this.#base}${ARTIFACTS}/`));
  }

  async #list(root: URL, dir: string) {
    const path = decodeURIComponent(root.pathname.slice(ARTIFACTS.length + 1));
    const query = new URLSearchParams({ path: dir === '' ? path : `${path}/${dir}` }).toString();
    const { files } = await this.#json(Listing, `${ARTIFACTS}?${query}`, null, root.origin);
    return files.map(file => ({ ...file, path: dir === '' ? file.path : `${dir}/${file.path}` }));
  }

  /** All files, depth first. */
  async #walk(root: URL, dir: string): Promise<readonly string[]> {
    const found: string[] = [];
    for (const { path, is_dir } of await this.#list(root, dir)) {
      if (is_dir) found.push(...(await this.#walk(root, path)));
      else found.push(path);
    }
    return found;
  }

  async #file(root: URL, path: string): Promise<readonly [string, Buffer]> {
    return [path, await this.#get(`${root.href}/${path.split('/').map(encodeURIComponent).join('/')}`)];
  }

  async #json<T>(
    schema: z.ZodType<T>,
    path: string,
    body: object | null = null,
    base = this.#base,
  ): Promise<T> {
    const text = (await this.#get(`${base}${path}`, body)).toString('utf8');
    return schema.parse(JSON.parse(text));
  }

  async #get(url: string, body: object | null = null): Promise<Buffer> {
    const sent = {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    } as const;
    try {
      const answer = await request(url, {
        ...(body === null ? {} : sent),
        dispatcher: this.#connections,
        signal: this.#signal,
      });
      const bytes = Buffer.from(await answer.body.arrayBuffer());
      if (answer.statusCode === 200) return bytes;
      throw new LoadFailed(url, answer.statusCode, bytes.toString('utf8'));
    } catch (error) {
      if (error instanceof LoadFailed) throw error;
      this.#signal?.throwIfAborted();
      throw new LoadFailed(url, null, String(error));
    }
  }
}
