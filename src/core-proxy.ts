import { selectSource } from './artifacts/select.ts';
import type { Options } from './config/options.ts';
import { systemClock as clock } from './domain/clock.ts';
import type { EventBus } from './domain/events.ts';
import type { ArtifactRoot } from './domain/version.ts';
import type { FloorLimits } from './policy/progress-floor.ts';
import { Addresses } from './proxy/addresses.ts';
import { Allowed } from './proxy/allowed.ts';
import { Artifacts } from './proxy/artifacts.ts';
import { Downloads } from './proxy/downloads.ts';
import { Interests } from './proxy/interests.ts';
import { KeptAnswers } from './proxy/kept-answers.ts';
import { Lookback } from './proxy/lookback.ts';
import { OldAnswers } from './proxy/old-answers.ts';
import { PassedFiles } from './proxy/passed-files.ts';
import { Plain } from './proxy/plain.ts';
import { PriorVersions } from './proxy/prior.ts';
import { MlflowProxy } from './proxy/proxy.ts';
import { PROXIED_MS, Questions } from './proxy/questions.ts';
import { Relay } from './proxy/relay.ts';
import { StoredRoots } from './proxy/stored.ts';
import { Versions } from './proxy/versions.ts';
import { RegistryClient } from './registry/client.ts';
import type { Registry } from './registry/registry.ts';
import type { Fetcher } from './reload/fetcher.ts';
import { RegistryWatch } from './reload/registry-watch.ts';
import type { DeadlineReloader } from './reload/reloader.ts';
import type { Cache } from './store/cache.ts';
import type { Circuits } from './upstream/circuits.ts';
import type { MlflowClient } from './upstream/mlflow-client.ts';
import type { Transport } from './upstream/transport.ts';

/** As long as a reload gives a listing: an object store behind MLflow may be slow. */
const LISTING_TRY_MS = 30_000;

/** What the proxy shares with the reload API. */
export interface Shared {
  readonly asks: { readonly registry: RegistryClient; readonly tracking: RegistryClient };
  readonly registry: Registry;
  readonly watch: RegistryWatch;
  readonly cache: Cache;
  readonly fetcher: Fetcher;
  readonly reloader: DeadlineReloader;
  readonly circuits: Circuits;
  /** For answers that are short, and for those that are not. */
  readonly clients: { readonly questions: MlflowClient; readonly downloads: MlflowClient };
  readonly transport: Transport;
  readonly floor: FloorLimits;
  readonly events: EventBus;
  /** Aborts when the process ends. */
  readonly stop: AbortSignal;
}

/** The part of the core that stands in for MLflow. */
export function createProxy(options: Options, shared: Shared): MlflowProxy {
  const { mlflow, fileRoots } = options;
  const { registryUri, trackingUri, credentials, tryTimeoutMs } = mlflow;
  const {
    asks,
    registry,
    watch,
    cache,
    fetcher,
    reloader,
    circuits,
    clients,
    transport,
    floor,
    events,
    stop,
  } = shared;
  const maxStaleMs = options.maxStaleS * 1_000;
  const deadlineMs = options.reloadDeadlineS * 1_000;
  const refreshWaitMs = options.refreshWaitS * 1_000;
  const times = { refreshWaitMs, maxStaleMs, clock, stop };
  const kept = new KeptAnswers(cache, clock);
  // The proxy keeps its own answers itself, with the scope that it has found out already.
  asks.tracking.listen((question, answer, { origin }) => {
    if (origin !== null) kept.keepHeard(reloader.scope(origin.caller), question, answer);
  });
  const interests = new Interests();
  const allowed = new Allowed(options.allow, interests);
  const lookback = new Lookback(maxStaleMs, clock);
  const isOne = registryUri === trackingUri;
  const uris = { uri: trackingUri, registry_uri: registryUri };
  const tracking = isOne ? watch : new RegistryWatch(uris, refreshWaitMs, clock);
  // That artifacts are slow says nothing of the server that they come through.
  const watches = {
    registry: watch,
    tracking,
    artifacts: new RegistryWatch(uris, refreshWaitMs, clock, tracking),
  };
  const artifactBreaker = () => circuits.artifacts(new URL(trackingUri).origin);
  const listings = new RegistryClient({
    client: clients.downloads,
    baseUri: trackingUri,
    attempts: mlflow.attempts,
    tryTimeoutMs: LISTING_TRY_MS,
    budgetMs: deadlineMs,
    events,
    breakerOf: artifactBreaker,
  });
  const servers = {
    registry: { asks: asks.registry, uri: registryUri, watch: watches.registry, limitMs: PROXIED_MS },
    tracking: { asks: asks.tracking, uri: trackingUri, watch: watches.tracking, limitMs: PROXIED_MS },
    artifacts: { asks: listings, uri: trackingUri, watch: watches.artifacts, limitMs: deadlineMs },
  };
  const old = new OldAnswers(kept, maxStaleMs, clock);
  const questions = new Questions({
    ...times,
    servers,
    cache,
    kept,
    old,
    lookback,
    interests,
    floor,
    freshMs: options.freshS * 1_000,
  });
  const canRead = (root: ArtifactRoot) => {
    try {
      for (const part of root)
        selectSource(part, { client: clients.downloads, events, trackingUri, fileRoots });
      return true;
    } catch {
      return false;
    }
  };
  const passed = new PassedFiles({
    ...times,
    client: clients.downloads,
    trackingUri,
    breaker: artifactBreaker,
    watch: watches.artifacts,
    kept,
    events,
    floor,
    deadlineMs,
  });
  const downloads = new Downloads({ fetcher, reloader, interests, deadlineMs, events, clock });
  const stored = new StoredRoots(clock);
  const versions = new Versions({ cache, stored, downloads, interests, allowed, lookback });
  const prior = new PriorVersions({ cache, stored, lookback, versions }, clock);
  return new MlflowProxy({
    questions,
    addresses: new Addresses({
      questions,
      registry,
      interests,
      lookback,
      cache,
      canRead,
      refreshWaitMs,
      stop,
    }),
    artifacts: new Artifacts({
      versions,
      downloads,
      interests,
      allowed,
      questions,
      passed,
      prior,
      refreshWaitMs,
    }),
    plain: new Plain({ ...times, client: clients.questions, trackingUri, kept, timeoutMs: tryTimeoutMs }),
    relay: new Relay({
      transport,
      workspace: mlflow.workspace,
      breakerOf: kind => (kind === 'artifacts' ? artifactBreaker() : circuits[kind]),
      floor,
      clock,
      events,
    }),
    kept,
    allowed,
    watches,
    cache,
    events,
    scope: caller => reloader.scope(caller),
    hasCredential: credentials.username !== null || credentials.token !== null,
  });
}
