import { type Answer, invalid, json, missing, text } from './answers.ts';
import type { ScriptedModels, ScriptedVersion } from './models.ts';

const STAGES = ['None', 'Staging', 'Production', 'Archived'];

/** What the caller gave, from the query or from the JSON body, as MLflow takes either. */
export interface Params {
  readonly one: (name: string) => string;
  readonly many: (name: string) => readonly string[];
}

type Handler = (models: ScriptedModels, params: Params) => Answer;

/** MLflow's registry and tracking routes, in the shapes that mlflow 3.17 answers. */
const HANDLERS: Readonly<Record<string, Handler>> = {
  '/health': () => text('OK'),
  '/version': () => text('3.17.2', 'text/html; charset=utf-8'),
  '/api/2.0/mlflow/registered-models/get-latest-versions': latestVersions,
  '/api/2.0/mlflow/registered-models/alias': alias,
  '/api/2.0/mlflow/registered-models/get': registeredModel,
  '/api/2.0/mlflow/model-versions/get': (models, params) =>
    withVersion(models, params, version => json({ model_version: versionJson(models, version) })),
  '/api/2.0/mlflow/model-versions/get-download-uri': (models, params) =>
    withVersion(models, params, version => json({ artifact_uri: version.downloadUri })),
  '/api/2.0/mlflow/logged-models/search': searchLoggedModels,
  '/api/2.0/mlflow/runs/get': run,
};

const LOGGED_MODEL = '/api/2.0/mlflow/logged-models/';

/** The route's name for counting, and its answer; undefined where MLflow has no such route. */
export function registryAnswer(
  models: ScriptedModels,
  path: string,
  params: Params,
): { readonly route: string; readonly answer: Answer } | undefined {
  const handler = HANDLERS[path];
  if (handler !== undefined)
    return { route: path.replace('/api/2.0/mlflow/', ''), answer: handler(models, params) };
  if (!path.startsWith(LOGGED_MODEL)) return undefined;
  const modelId = decodeURIComponent(path.slice(LOGGED_MODEL.length));
  const found = models.byModelId(modelId);
  const answer =
    found === undefined
      ? missing(`Logged model with ID '${modelId}' not found.`)
      : json({ model: loggedJson(found) });
  return { route: 'logged-models/get', answer };
}

function latestVersions(models: ScriptedModels, params: Params): Answer {
  const name = params.one('name');
  const versions = models.versionsOf(name);
  if (versions.length === 0) return missing(`Registered Model with name=${name} not found`);
  const asked = params.many('stages');
  const stages = asked.map(stage => STAGES.find(known => known.toLowerCase() === stage.toLowerCase()));
  const bad = asked[stages.indexOf(undefined)];
  if (bad !== undefined)
    return invalid(`Invalid Model Version stage: ${bad}. Value must be one of ${STAGES.join(', ')}.`);
  const wanted = stages.length === 0 ? STAGES : stages;
  const latest = STAGES.filter(stage => wanted.includes(stage)).flatMap(stage => newest(versions, stage));
  return json(
    latest.length === 0 ? {} : { model_versions: latest.map(version => versionJson(models, version)) },
  );
}

function newest(versions: readonly ScriptedVersion[], stage: string): readonly ScriptedVersion[] {
  return versions
    .filter(version => version.stage === stage)
    .toSorted((a, b) => Number(b.version) - Number(a.version))
    .slice(0, 1);
}

function alias(models: ScriptedModels, params: Params): Answer {
  const name = params.one('name');
  if (models.versionsOf(name).length === 0) return missing(`Registered Model with name=${name} not found`);
  const target = models.versionOfAlias(name, params.one('alias'));
  const version = target === undefined ? undefined : models.find(name, target);
  if (version === undefined) return invalid(`Registered model alias ${params.one('alias')} not found.`);
  return json({ model_version: versionJson(models, version) });
}

function registeredModel(models: ScriptedModels, params: Params): Answer {
  const name = params.one('name');
  const versions = models.versionsOf(name);
  if (versions.length === 0) return missing(`Registered Model with name=${name} not found`);
  const latest = STAGES.flatMap(stage => newest(versions, stage)).map(version =>
    versionJson(models, version),
  );
  const aliases = versions.flatMap(version =>
    models.aliasesOf(version).map(known => ({ alias: known, version: version.version })),
  );
  return json({ registered_model: { name, creation_timestamp: 1, latest_versions: latest, aliases } });
}

function withVersion(
  models: ScriptedModels,
  params: Params,
  answer: (version: ScriptedVersion) => Answer,
): Answer {
  const [name, version] = [params.one('name'), params.one('version')];
  const found = models.find(name, version);
  return found === undefined
    ? missing(`Model Version (name=${name}, version=${version}) not found`)
    : answer(found);
}

function versionJson(models: ScriptedModels, version: ScriptedVersion): unknown {
  return {
    name: version.name,
    version: version.version,
    creation_timestamp: version.createdMs,
    last_updated_timestamp: version.createdMs,
    current_stage: version.stage,
    description: '',
    source: `models:/${version.modelId}`,
    run_id: version.runId,
    status: version.status,
    run_link: '',
    aliases: models.aliasesOf(version),
  };
}

function loggedJson(version: ScriptedVersion): unknown {
  return {
    info: {
      model_id: version.modelId,
      experiment_id: '0',
      name: 'model',
      creation_timestamp_ms: version.createdMs,
      last_updated_timestamp_ms: version.createdMs,
      artifact_uri: version.downloadUri,
      status: 'LOGGED_MODEL_READY',
      model_type: '',
      source_run_id: version.runId,
      tags: [],
    },
    data: {},
  };
}

/** Pages as MLflow does; of its filters only the source run's is understood. */
function searchLoggedModels(models: ScriptedModels, params: Params): Answer {
  const runId = /source_run_id\s*=\s*'([^']+)'/.exec(params.one('filter'))?.[1];
  const found = models.all().filter(version => runId === undefined || version.runId === runId);
  const size = Number(params.one('max_results') || '100');
  const from = Number(params.one('page_token') || '0');
  const page = found.slice(from, from + size).map(loggedJson);
  const next = from + size < found.length ? { next_page_token: String(from + size) } : {};
  return json(page.length === 0 ? {} : { models: page, ...next });
}

function run(models: ScriptedModels, params: Params): Answer {
  const runId = params.one('run_id');
  const [logged, ...rest] = models.byRunId(runId);
  if (logged === undefined) return missing(`Run with id=${runId} not found`);
  const info = {
    run_id: runId,
    run_uuid: runId,
    experiment_id: '0',
    status: 'FINISHED',
    artifact_uri: `mlflow-artifacts:/0/${runId}/artifacts`,
    lifecycle_stage: 'active',
  };
  const outputs = [logged, ...rest].map(version => ({ model_id: version.modelId, step: 0 }));
  return json({ run: { info, data: {}, inputs: {}, outputs: { model_outputs: outputs } } });
}
