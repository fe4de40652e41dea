import type { Caller } from '../domain/caller.ts';
import { type Clock, steady, wallTime } from '../domain/clock.ts';
import type { EventBus } from '../domain/events.ts';
import { formatModelUri, refKey } from '../domain/model-uri.ts';
import type { Outcome } from '../domain/outcome.ts';
import { type Scope, scopeOfCaller } from '../domain/scope.ts';
import { Recent } from '../policy/recent.ts';
import type { Cache } from '../store/cache.ts';
import type { Ref } from '../store/records/ref-record.ts';
import type { Store } from '../store/store.ts';
import type { Circuits } from '../upstream/circuits.ts';
import type { HealthProbe } from '../upstream/health.ts';
import type { BreakerSummary, CacheState, Catalog, ModelSummary, RefSummary, RegistryHealth } from './api.ts';
import type { RegistryWatch } from './registry-watch.ts';

export interface CatalogOptions {
  readonly cache: Cache;
  readonly cacheDir: string;
  readonly cacheMaxBytes: number;
  readonly watch: RegistryWatch;
  readonly circuits: Circuits;
  /** Of the registry. */
  readonly health: HealthProbe;
  readonly registryUri: string;
  readonly workspace: string | null;
  readonly clock: Clock;
  readonly events: EventBus;
}

type LastOutcome = NonNullable<RefSummary['last_outcome']>;

/** As many as there are models in a large cache; refs that are forgotten leave theirs behind. */
const MOST_OUTCOMES = 10_000;

/** Remembers only what is on the disk as a ref, so that asking for names that do not exist fills no memory. */
export class CachedModels implements Catalog {
  readonly #options: CatalogOptions;
  readonly #lastOutcomes = new Recent<LastOutcome>(MOST_OUTCOMES);
  #scrub: CacheState['scrub'] = null;

  constructor(options: CatalogOptions) {
    this.#options = options;
    options.events.subscribe(event => {
      if (event.type === 'reload_finished') this.#remember(this.#scope(event.caller), event.outcome);
      if (event.type === 'scrub_finished') this.#noteScrub(event.files, event.damaged);
    });
  }

  *models(caller: Caller): Generator<ModelSummary, void, undefined> {
    const store = this.#options.cache.opened;
    if (store === null) return;
    const scope = this.#scope(caller);
    for (const name of store.refs.models.names(scope)) {
      const model = this.#model(store, scope, name);
      // It may have been forgotten since they were begun.
      if (model !== null) yield model;
    }
  }

  model(caller: Caller, name: string): ModelSummary | null {
    const store = this.#options.cache.opened;
    return store === null ? null : this.#model(store, this.#scope(caller), name);
  }

  #model(store: Store, scope: Scope, name: string): ModelSummary | null {
    const refs = store.refs.models.named(scope, name).map(ref => this.#summary(store, scope, ref));
    return refs.length === 0 ? null : { name, refs };
  }

  registry(): RegistryHealth {
    const { watch, health } = this.#options;
    const { last } = health;
    if (last === null) return { ...watch.health(), health: null };
    const { ok, at, latencyMs, error } = last;
    return { ...watch.health(), health: { ok, at: at / 1_000, latency_ms: Math.round(latencyMs), error } };
  }

  breakers(): readonly BreakerSummary[] {
    return this.#options.circuits.all().map(({ name, host, breaker }) => ({
      name,
      host,
      state: breaker.state,
      failures: breaker.failures,
      retry_in_s: breaker.retryInMs === null ? null : Math.ceil(breaker.retryInMs) / 1_000,
      last_failure: breaker.lastFailure,
    }));
  }

  cache(): CacheState {
    const { cache, cacheDir, cacheMaxBytes } = this.#options;
    const { models, bytes } = cache.opened?.refs.published() ?? { models: 0, bytes: 0 };
    const space = cache.opened?.space;
    return {
      dir: cacheDir,
      usable: cache.problem === null,
      problem: cache.problem,
      models,
      bytes,
      max_bytes: cacheMaxBytes,
      used_bytes: space?.usedBytes ?? null,
      free_bytes: space?.freeBytes ?? null,
      scrub: this.#scrub,
    };
  }

  #noteScrub(files: number, damaged: number): void {
    this.#scrub = { last_finished_at: this.#options.clock.now() / 1_000, files, damaged };
  }

  #scope(caller: Caller): Scope {
    return scopeOfCaller(this.#options, caller);
  }

  #remember(scope: Scope, outcome: Outcome): void {
    const { status, warning, model_uri } = outcome;
    const isKnown = this.#options.cache.opened?.refs.knows(scope, model_uri) ?? false;
    if (!isKnown) return;
    this.#lastOutcomes.set(`${scope.id} ${model_uri}`, {
      status,
      warning,
      at: this.#options.clock.now() / 1_000,
    });
  }

  #summary(store: Store, scope: Scope, ref: Ref): RefSummary {
    const { published, confirmedAt } = ref;
    const key = refKey(ref.uri);
    const uri = formatModelUri(ref.uri);
    const ageMs = confirmedAt === null ? null : steady(this.#options.clock) - confirmedAt;
    return {
      model_uri: uri,
      ref: key.ref,
      version: published?.version.version ?? null,
      resolved_version: ref.resolved?.version ?? null,
      path: published === null ? null : store.layout.snapshot(published.snapshot),
      ref_path: published !== null && scope.own ? store.layout.refPath(key) : null,
      digest: published?.digest ?? null,
      files: published?.files ?? null,
      bytes: published?.bytes ?? null,
      confirmed_at: confirmedAt === null ? null : wallTime(confirmedAt, this.#options.clock) / 1_000,
      age_s: ageMs === null ? null : Math.max(0, ageMs) / 1_000,
      last_outcome: this.#lastOutcomes.get(`${scope.id} ${uri}`) ?? null,
    };
  }
}
