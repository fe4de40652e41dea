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
import { PassedFiles } from './proxy/passed-files.ts';
import { Plain } from './proxy/plain.ts';
import { MlflowProxy } from './proxy/proxy.ts';
import { Questions } from './proxy/questions.ts';
import { Relay } from './proxy/relay.ts';
import { StoredRoots } from './proxy/stored.ts';
import { Versions } from './proxy/versions.ts';
import type { RegistryClient } from './registry/client.ts';
import type { Registry } from './registry/registry.ts';
import type { Fetcher } from './reload/fetcher.ts';
import type { RegistryWatch } from './reload/registry-watch.ts';
import type { DeadlineReloader } from './reload/reloader.ts';
import type { Cache } from './store/cache.ts';
import type { Circuits } from './upstream/circuits.ts';
import type { MlflowClient } from './upstream/mlflow-client.ts';
import type { Transport } from './upstream/transport.ts';

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
  const servers = {
    registry: { asks: asks.registry, uri: registryUri },
    tracking: { asks: asks.tracking, uri: trackingUri },
  };
  const questions = new Questions({
    ...times,
    servers,
    watch,
    cache,
    kept,
    lookback,
    interests,
    freshMs: options.freshS * 1_000,
  });
  const artifactBreaker = () => circuits.artifacts(new URL(trackingUri).origin);
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
    watch,
    kept,
    events,
    floor,
    deadlineMs,
  });
  const downloads = new Downloads({ fetcher, reloader, interests, deadlineMs, events, clock });
  const stored = new StoredRoots(clock);
  const versions = new Versions({ cache, stored, downloads, interests, allowed, lookback });
  return new MlflowProxy({
    questions,
    addresses: new Addresses({ questions, registry, interests, lookback, cache, canRead, stop }),
    artifacts: new Artifacts({ versions, downloads, interests, allowed, questions, passed }),
    plain: new Plain({
      client: clients.questions,
      trackingUri,
      kept,
      timeoutMs: tryTimeoutMs,
      maxStaleMs,
      stop,
    }),
    relay: new Relay({
      transport,
      workspace: mlflow.workspace,
      breakerOf: url => (url.href.startsWith(registryUri) ? circuits.registry : circuits.tracking),
      floor,
      clock,
      events,
    }),
    kept,
    allowed,
    watch,
    cache,
    events,
    scope: caller => reloader.scope(caller),
    hasCredential: credentials.username !== null || credentials.token !== null,
  });
}
