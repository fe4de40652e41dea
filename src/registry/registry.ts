import { type ErrorCode, SidecarError, toSidecarError } from '../domain/errors.ts';
import { formatModelUri, type ModelUri, parseModelUri } from '../domain/model-uri.ts';
import type { ArtifactRoot, ModelVersion } from '../domain/version.ts';
import {
  DownloadUriAnswer,
  LatestVersionsAnswer,
  parseAnswer,
  type RegisteredVersion,
  readinessFault,
  toModelVersion,
  VersionAnswer,
} from './answers.ts';
import { assertAddressOf, assertAsked, assertAskedStage, assertAskedVersion } from './asked.ts';
import type { Question, RegistryCall, RegistryClient } from './client.ts';
import { definite, type Resolution, stageHint } from './resolution.ts';
import type { Runs } from './runs.ts';

/** `get-download-uri` may name another model URI, and that one another. */
const MAX_HOPS = 5;

type NamedUri = Extract<ModelUri, { name: string }>;

/** What a model is: asks MLflow which version a URI means, and where its artifacts are. */
export class Registry {
  readonly #client: RegistryClient;
  readonly #runs: Runs;

  constructor(client: RegistryClient, runs: Runs) {
    this.#client = client;
    this.#runs = runs;
  }

  /**
   * One question for a registered model.
   * @throws SidecarError a code of "missing", `access_denied`, or why no answer came
   */
  async resolve(uri: ModelUri, call: RegistryCall): Promise<Resolution> {
    if (uri.kind === 'logged_model') return await this.#runs.loggedModel(uri.modelId, call);
    if (uri.kind === 'run') return await this.#runs.artifacts(uri.runId, uri.path, call);
    const answer = await this.#version(uri, call);
    const fault = readinessFault(
      `Version ${answer.version} of ${uri.name}`,
      answer.status,
      answer.status_message,
    );
    return { version: toModelVersion(answer), root: null, isGrowing: false, logged: null, fault };
  }

  /**
   * Where the artifacts of a registered version are.
   * @throws SidecarError `version_not_ready` where they are of a logged model that is not finished, whatever the version says
   */
  async locate(version: ModelVersion, call: RegistryCall): Promise<ArtifactRoot> {
    const [root, fault] = await Promise.all([
      this.#locate(version, call, MAX_HOPS),
      this.unfinished(version, call),
    ]);
    if (fault !== null) throw fault;
    return root;
  }

  /** Why the logged model that a version was made of is not finished; null where it is, or the version is of none. */
  async unfinished({ modelId }: ModelVersion, call: RegistryCall): Promise<SidecarError | null> {
    if (modelId === null) return null;
    return await this.#runs.loggedModel(modelId, call).then(
      ({ fault }) => fault,
      (error: unknown) => {
        // It was deleted, or is in another server: then the version's own word is all there is.
        if (toSidecarError(error).code === 'not_found') return null;
        throw error;
      },
    );
  }

  /**
   * Where the artifacts of an address are that MLflow gave for a version: it may name another model, or a run.
   * @throws SidecarError as `locate`
   */
  async follow(artifactUri: string, call: RegistryCall): Promise<ArtifactRoot> {
    return await this.#follow(artifactUri, call, MAX_HOPS);
  }

  async #locate(version: ModelVersion, call: RegistryCall, hops: number): Promise<ArtifactRoot> {
    const { name, version: number } = version;
    if (name === null || number === null)
      throw new SidecarError('internal', 'Only a registered version is located.');
    const query = { name, version: number };
    const answer = await this.#client.ask({ path: 'model-versions/get-download-uri', query }, call);
    const what = `The address of version ${number} of ${name}`;
    const found = parseAnswer(DownloadUriAnswer, definite(answer, 'version_not_found', what), what);
    assertAddressOf(version, found.artifact_uri);
    return await this.#follow(found.artifact_uri, call, hops);
  }

  async #follow(artifactUri: string, call: RegistryCall, hops: number): Promise<ArtifactRoot> {
    if (!/^(models|runs):\//.test(artifactUri)) return [artifactUri];
    if (hops === 0)
      throw new SidecarError('mlflow_error', `${artifactUri}: the version's address leads in a circle.`);
    const resolution = await this.resolve(parseUpstreamUri(artifactUri), call);
    if (resolution.fault !== null) throw resolution.fault;
    return resolution.root ?? (await this.#locate(resolution.version, call, hops - 1));
  }

  async #version(uri: NamedUri, call: RegistryCall): Promise<RegisteredVersion> {
    const what = formatModelUri(uri);
    switch (uri.kind) {
      case 'stage':
      case 'latest':
        return await this.#latest(uri, what, call);
      case 'alias': {
        const question = { path: 'registered-models/alias', query: { name: uri.name, alias: uri.alias } };
        const found = await this.#one(question, 'alias_not_found', what, call);
        assertAskedVersion(uri, found);
        return found;
      }
      case 'version': {
        const question = { path: 'model-versions/get', query: { name: uri.name, version: uri.version } };
        const found = await this.#one(question, 'version_not_found', what, call);
        assertAskedVersion(uri, found);
        return found;
      }
    }
  }

  async #one(
    question: Question,
    missing: ErrorCode,
    what: string,
    call: RegistryCall,
  ): Promise<RegisteredVersion> {
    const answer = await this.#client.ask(question, call);
    const code = answer.status === 404 && missing === 'alias_not_found' ? 'model_not_found' : missing;
    return parseAnswer(VersionAnswer, definite(answer, code, what), what).model_version;
  }

  async #latest(
    uri: Extract<NamedUri, { kind: 'stage' | 'latest' }>,
    what: string,
    call: RegistryCall,
  ): Promise<RegisteredVersion> {
    const stages = uri.kind === 'stage' ? { stages: [uri.stage] } : {};
    const answer = await this.#client.ask(
      { path: 'registered-models/get-latest-versions', body: { name: uri.name, ...stages } },
      call,
    );
    const hint = uri.kind === 'stage' ? stageHint(uri.stage) : undefined;
    const isBadStage = answer.status === 400 && uri.kind === 'stage';
    const code = isBadStage ? 'no_version_in_stage' : 'model_not_found';
    const versions =
      parseAnswer(LatestVersionsAnswer, definite(answer, code, what, isBadStage ? hint : undefined), what)
        .model_versions ?? [];
    for (const { name } of versions) assertAsked('the model', uri.name, name);
    if (uri.kind === 'stage') {
      assertAskedStage(
        uri.stage,
        versions.map(one => one.current_stage),
      );
    }
    const found = versions
      .filter(version => isInStage(version, uri))
      .toSorted(byNumber)
      .at(-1);
    if (found !== undefined) return found;
    throw uri.kind === 'stage'
      ? new SidecarError('no_version_in_stage', `${uri.name} has no version in stage ${uri.stage}.`, { hint })
      : new SidecarError('version_not_found', `${uri.name} has no version.`);
  }
}

function isInStage(version: RegisteredVersion, uri: ModelUri): boolean {
  return uri.kind !== 'stage' || version.current_stage?.toLowerCase() === uri.stage.toLowerCase();
}

function byNumber(a: RegisteredVersion, b: RegisteredVersion): number {
  return Number(a.version) - Number(b.version);
}

function parseUpstreamUri(text: string): ModelUri {
  try {
    return parseModelUri(text);
  } catch (error) {
    throw new SidecarError('mlflow_error', `MLflow names an address that is no model URI: ${text}`, {
      cause: error,
    });
  }
}
