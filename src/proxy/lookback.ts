import { type Clock, steady } from '../domain/clock.ts';
import { type ModelUri, modelUriIn } from '../domain/model-uri.ts';
import type { Scope } from '../domain/scope.ts';
import type { ModelVersion } from '../domain/version.ts';
import { fallbackOf } from '../reload/case.ts';
import type { Published, Ref } from '../store/records/ref-record.ts';
import type { Refs } from '../store/records/refs.ts';
import { type Answer, answered } from './answer.ts';
import { type Read, stagesOf, textOf } from './reads.ts';

/** A published version that may be given. */
export interface Given {
  readonly uri: ModelUri;
  readonly published: Published;
  readonly ageS: number;
}

/**
 * What the cache can say of registered models while MLflow says nothing: the versions that are published, and no others, so that
 * whatever a client is told to load is there.
 */
export class Lookback {
  readonly #maxStaleMs: number;
  readonly #clock: Clock;

  constructor(maxStaleMs: number, clock: Clock) {
    this.#maxStaleMs = maxStaleMs;
    this.#clock = clock;
  }

  /** What would be MLflow's answer; null where nothing is known, or the question is another. */
  answer(refs: Refs, scope: Scope, read: Read): Answer | null {
    const name = textOf(read, 'name');
    if (name === null) return null;
    switch (read.route) {
      case 'registered-models/get-latest-versions':
        return this.#latest(refs, scope, name, stagesOf(read));
      case 'registered-models/alias':
        return this.#one(this.#byUri(refs, scope, `models:/${name}@${textOf(read, 'alias') ?? ''}`));
      case 'model-versions/get':
        return this.#one(this.version(refs, scope, name, textOf(read, 'version') ?? ''));
      case 'registered-models/get':
        return modelAnswer(name, this.#ofName(refs, scope, name));
      default:
        return null;
    }
  }

  /** Under whatever URI it is published. */
  version(refs: Refs, scope: Scope, name: string, version: string): Given | null {
    const found = this.#ofName(refs, scope, name).filter(
      ({ published }) => published.version.version === version,
    );
    return found.toSorted((a, b) => a.ageS - b.ageS)[0] ?? null;
  }

  /** Under whatever URI it is published. */
  snapshot(refs: Refs, scope: Scope, snapshot: string): Given | null {
    const found = refs.all(scope).filter(({ published }) => published?.snapshot === snapshot);
    return this.#usable(refs, scope, found).toSorted((a, b) => a.ageS - b.ageS)[0] ?? null;
  }

  /** What a run logged at `source`, or as a model of that name. */
  run(refs: Refs, scope: Scope, source: string): Given | null {
    const ofRuns = refs
      .all(scope)
      .filter(({ uri, published }) => uri.kind === 'run' && published?.version.source === source);
    return this.#usable(refs, scope, ofRuns)[0] ?? null;
  }

  #latest(refs: Refs, scope: Scope, name: string, stages: readonly string[]): Answer | null {
    const uris = latestUris(name, stages);
    const found = uris.map(uri => this.#byUri(refs, scope, uri));
    const given = found.filter(one => one !== null);
    if (given.length < uris.length) return null;
    const ageS = Math.max(...given.map(one => one.ageS));
    return old({ model_versions: given.map(({ published }) => versionJson(published.version)) }, ageS);
  }

  #one(given: Given | null): Answer | null {
    return given === null ? null : old({ model_version: versionJson(given.published.version) }, given.ageS);
  }

  #byUri(refs: Refs, scope: Scope, text: string): Given | null {
    const uri = modelUriIn(text);
    return uri === null ? null : (this.#usable(refs, scope, [refs.get(scope, uri)])[0] ?? null);
  }

  #ofName(refs: Refs, scope: Scope, name: string): readonly Given[] {
    const named = refs.models.named(scope, name).filter(({ uri }) => 'name' in uri);
    return this.#usable(refs, scope, named);
  }

  #usable(refs: Refs, scope: Scope, found: readonly Ref[]): readonly Given[] {
    return found.flatMap(ref => {
      const { published, uri } = ref;
      const { usable, ageS } = fallbackOf(ref, scope, this.#maxStaleMs, steady(this.#clock));
      const isGiven =
        published !== null && usable && ageS !== null && !refs.withdrawn.has(published.snapshot);
      return isGiven ? [{ uri, published, ageS }] : [];
    });
  }
}

/** The URIs whose meaning a read asks for. */
export function askedUris(read: Read): readonly ModelUri[] {
  const name = textOf(read, 'name');
  const version = textOf(read, 'version');
  switch (read.route) {
    case 'registered-models/get-latest-versions':
      return latestUris(name ?? '', stagesOf(read)).flatMap(text => modelUriIn(text) ?? []);
    case 'registered-models/alias':
      return [modelUriIn(`models:/${name}@${textOf(read, 'alias') ?? ''}`) ?? []].flat();
    case 'model-versions/get':
    case 'model-versions/get-download-uri':
      return [modelUriIn(`models:/${name}/${version}`) ?? []].flat();
    default:
      return [];
  }
}

function latestUris(name: string, stages: readonly string[]): readonly string[] {
  return (stages.length === 0 ? ['latest'] : stages).map(ref => `models:/${name}/${ref}`);
}

function modelAnswer(name: string, given: readonly Given[]): Answer | null {
  if (given.length === 0) return null;
  const versions = new Map(given.map(({ published }) => [published.version.version, published.version]));
  const created = [...versions.values()].map(({ createdMs }) => createdMs ?? 0);
  const aliases = given.flatMap(({ uri, published }) =>
    uri.kind === 'alias' ? [{ alias: uri.alias, version: published.version.version }] : [],
  );
  const model = {
    name,
    creation_timestamp: Math.min(...created),
    last_updated_timestamp: Math.max(...created),
    description: '',
    latest_versions: [...versions.values()].map(versionJson),
    aliases,
  };
  return old({ registered_model: model }, Math.max(...given.map(({ ageS }) => ageS)));
}

/** As MLflow writes it, of what is kept of it. */
function versionJson(version: ModelVersion): object {
  return {
    name: version.name,
    version: version.version,
    creation_timestamp: version.createdMs ?? 0,
    last_updated_timestamp: version.createdMs ?? 0,
    current_stage: version.stage ?? 'None',
    description: '',
    source: version.source,
    run_id: version.runId ?? '',
    status: 'READY',
    run_link: '',
    aliases: version.aliases,
  };
}

function old(body: object, ageS: number): Answer {
  return { ...answered(JSON.stringify(body)), source: 'store', ageS: Math.floor(ageS) };
}
