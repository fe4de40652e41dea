import { SidecarError } from '../domain/errors.ts';
import type { ArtifactRoot, ModelVersion } from '../domain/version.ts';
import {
  type LoggedModel,
  LoggedModelAnswer,
  LoggedModelsAnswer,
  parseAnswer,
  RunAnswer,
  readinessFault,
  versionOfLogged,
} from './answers.ts';
import { assertAsked } from './asked.ts';
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
    assertAsked('the logged model', modelId, info.model_id);
    return resolutionOf(what, info);
  }

  /** A run's artifacts below `path`, overlaid by the model that the run logged under that name. */
  async artifacts(runId: string, path: string, call: RegistryCall): Promise<Resolution> {
    const what = `runs:/${runId}/${path}`;
    const answer = await this.#client.ask({ path: 'runs/get', query: { run_id: runId } }, call);
    const { info } = parseAnswer(RunAnswer, definite(answer, 'run_not_found', what), what).run;
    assertAsked('the run', runId, info.run_id);
    const [name = '', ...rest] = path.split('/');
    const model = await this.#modelOfRun(info.experiment_id, runId, name, call);
    const own = join(info.artifact_uri, path);
    const root: ArtifactRoot = model === null ? [own] : [own, join(model.info.artifact_uri, rest.join('/'))];
    const logged = model === null ? null : resolutionOf(`models:/${model.info.model_id}`, model.info);
    const isGrowing = !hasEnded(info.status) || (logged !== null && logged.fault !== null);
    const version: ModelVersion = {
      ...UNREGISTERED,
      runId,
      modelId: model?.info.model_id ?? null,
      createdMs: model?.info.creation_timestamp_ms ?? info.start_time ?? null,
      // A run can be resumed: then it ends once more.
      endedMs: isGrowing ? null : (info.end_time ?? 0),
      source: own,
    };
    return { version, root, isGrowing, logged: rest.length === 0 ? logged : null, fault: null };
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
      for (const { info } of found.models ?? []) assertAsked('the logged model named', name, info.name);
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

/** Where nobody says, as of a run that MLflow 1 made, it is taken for one that goes on. */
function hasEnded(status: string | null): boolean {
  return status === 'FINISHED' || status === 'FAILED' || status === 'KILLED';
}

function resolutionOf(what: string, info: LoggedModel['info']): Resolution {
  return {
    version: versionOfLogged(info),
    root: [info.artifact_uri],
    isGrowing: false,
    logged: null,
    fault: readinessFault(what, info.status, null),
  };
}

const UNREGISTERED = { name: null, version: null, stage: null, aliases: [] } as const;

function join(base: string, path: string): string {
  return path === '' ? base : `${base.replace(/\/$/, '')}/${path}`;
}
