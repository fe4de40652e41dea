import { SidecarError } from '../domain/errors.ts';
import type { ArtifactRoot, ModelVersion } from '../domain/version.ts';
import {
  type LoggedModel,
  LoggedModelAnswer,
  LoggedModelsAnswer,
  parseAnswer,
  RunAnswer,
  readinessFault,
} from './answers.ts';
import type { RegistryCall, RegistryClient } from './client.ts';
import { definite, type Resolution } from './resolution.ts';

const MAX_PAGES = 100;

/** What the tracking server knows: logged models and runs. */
export class Runs {
  readonly #client: RegistryClient;

  constructor(client: RegistryClient) {
    this.#client = client;
  }

  async loggedModel(modelId: string, call: RegistryCall): Promise<Resolution> {
    const what = `models:/${modelId}`;
    const answer = await this.#client.ask(
      { path: `logged-models/${encodeURIComponent(modelId)}`, sinceMlflow3: true },
      call,
    );
    const { info } = parseAnswer(LoggedModelAnswer, definite(answer, 'not_found', what), what).model;
    const version = {
      ...UNREGISTERED,
      runId: info.source_run_id,
      modelId,
      createdMs: info.creation_timestamp_ms ?? null,
    };
    return {
      version: { ...version, source: info.artifact_uri },
      root: [info.artifact_uri],
      fault: readinessFault(what, info.status, null),
    };
  }

  /** A run's artifacts below `path`, overlaid by the model that the run logged under that name. */
  async artifacts(runId: string, path: string, call: RegistryCall): Promise<Resolution> {
    const what = `runs:/${runId}/${path}`;
    const answer = await this.#client.ask({ path: 'runs/get', query: { run_id: runId } }, call);
    const { info } = parseAnswer(RunAnswer, definite(answer, 'run_not_found', what), what).run;
    const [name = '', ...rest] = path.split('/');
    const model = await this.#modelOfRun(info.experiment_id, runId, name, call);
    const own = join(info.artifact_uri, path);
    const root: ArtifactRoot = model === null ? [own] : [own, join(model.info.artifact_uri, rest.join('/'))];
    const version: ModelVersion = {
      ...UNREGISTERED,
      runId,
      modelId: model?.info.model_id ?? null,
      createdMs: model?.info.creation_timestamp_ms ?? info.start_time ?? null,
      source: own,
    };
    return { version, root, fault: null };
  }

  async #modelOfRun(
    experimentId: string,
    runId: string,
    name: string,
    call: RegistryCall,
  ): Promise<LoggedModel | null> {
    // The filter language has no escape for a quote, and MLflow allows none in a logged model's name.
    if (name.includes("'")) return null;
    const what = `The logged models of run ${runId}`;
    let token: string | null = null;
    for (let page = 0; page < MAX_PAGES; page++) {
      const body = {
        experiment_ids: [experimentId],
        filter: `name = '${name}'`,
        ...(token === null ? {} : { page_token: token }),
      };
      const answer = await this.#searchPage(body, call);
      const found = parseAnswer(LoggedModelsAnswer, answer, what);
      const model = found.models?.find(({ info }) => info.source_run_id === runId && info.name === name);
      if (model !== undefined) return model;
      token = found.next_page_token;
      if (token === null) return null;
    }
    throw new SidecarError('mlflow_error', `${what} do not end after ${MAX_PAGES} pages.`);
  }

  /** MLflow 2 has no logged models and answers 404. */
  async #searchPage(body: unknown, call: RegistryCall): Promise<unknown> {
    const answer = await this.#client.ask({ path: 'logged-models/search', body, sinceMlflow3: true }, call);
    return answer.status < 400 ? answer.body : {};
  }
}

const UNREGISTERED = { name: null, version: null, stage: null, aliases: [] } as const;

function join(base: string, path: string): string {
  return path === '' ? base : `${base.replace(/\/$/, '')}/${path}`;
}
