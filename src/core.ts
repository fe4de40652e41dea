import { DOWNLOADS_AT_ONCE } from './artifacts/limits.ts';
import type { CacheOptions } from './config/cache.ts';
import type { Options } from './config/options.ts';
import { createProxy } from './core-proxy.ts';
import { systemClock as clock } from './domain/clock.ts';
import { SidecarError } from './domain/errors.ts';
import type { EventBus } from './domain/events.ts';
import { formatModelUri, type ModelUri } from './domain/model-uri.ts';
import { scopeOf } from './domain/scope.ts';
import { KeptJobs } from './jobs/jobs.ts';
import { JobRecords } from './jobs/records.ts';
import { within } from './policy/abort.ts';
import type { BreakerLimits } from './policy/breaker-rules.ts';
import type { MlflowProxy } from './proxy/proxy.ts';
import { isOfRegistry, QUESTIONS_AT_ONCE, type Question, RegistryClient } from './registry/client.ts';
import { Registry } from './registry/registry.ts';
import { Runs } from './registry/runs.ts';
import { CachedModels } from './reload/catalog.ts';
import { Fetcher } from './reload/fetcher.ts';
import { Pipeline } from './reload/pipeline.ts';
import { RegistryWatch } from './reload/registry-watch.ts';
import { DeadlineReloader } from './reload/reloader.ts';
import { Cache } from './store/cache.ts';
import type { CacheLimits } from './store/collect/collector.ts';
import type { Ref } from './store/records/ref-record.ts';
import { Circuits } from './upstream/circuits.ts';
import { Credentials } from './upstream/credentials.ts';
import { systemNames } from './upstream/dns-system.ts';
import { HealthProbe } from './upstream/health.ts';
import { MlflowClient } from './upstream/mlflow-client.ts';
import { Transport } from './upstream/transport.ts';

/** A trickle is a hang: below 64 KiB/s over any 30 s a download is given up. */
const PROGRESS_FLOOR = { bytesPerSecond: 64 * 1024, windowS: 30 };

/** A client logs with a thread or two; a training with many workers has as many again. */
const RELAYED_AT_ONCE = 128;

/** Everything but the HTTP server. */
export interface Core {
  readonly reloader: DeadlineReloader;
  readonly jobs: KeptJobs;
  readonly proxy: MlflowProxy;
  readonly catalog: CachedModels;
  readonly cache: Cache;
  /** Whether the sidecar's own credential has a version of it to give. */
  readonly isThere: (uri: ModelUri) => boolean;
  /** Ends the work under way. */
  readonly abort: (reason: Error) => void;
  readonly close: () => Promise<boolean>;
}

/** @param openWaitMs how long a cache directory that hangs is waited for */
export async function createCore(options: Options, events: EventBus, openWaitMs: number): Promise<Core> {
  const { mlflow } = options;
  const { workspace, registryUri, trackingUri } = mlflow;
  const stopping = new AbortController();
  const names = systemNames();
  // Apart, so that what hangs holds no connection that a question to the registry needs.
  const [questions, downloads, relayed] = await Promise.all([
    Transport.open(mlflow, { connections: QUESTIONS_AT_ONCE }, names),
    Transport.open(mlflow, { connections: DOWNLOADS_AT_ONCE }, names),
    Transport.open(mlflow, { connections: RELAYED_AT_ONCE }, names),
  ]);
  const trustedOrigins = new Set([trackingUri, registryUri].map(uri => new URL(uri).origin));
  const credentials = new Credentials(mlflow.credentials);
  const over = (transport: Transport) =>
    new MlflowClient({ transport, credentials, workspace, trustedOrigins });
  const clients = { questions: over(questions), downloads: over(downloads) };
  const healthOf = healthProbes(options, clients.questions, stopping.signal);
  const circuits = new Circuits({
    ...{ registryUri, trackingUri, limits: breakerLimits(options), clock, events },
    pulseOf: healthOf,
    isKnown: uri => isKnown(uri, options, cache.opened?.refs.all(own) ?? []),
  });
  const servers = askedServers(options, clients.questions, circuits, healthOf, events);
  const registry = new Registry(servers.registry.asks, new Runs(servers.tracking.asks));
  const watch = new RegistryWatch(
    { uri: trackingUri, registry_uri: registryUri },
    options.refreshWaitS * 1_000,
    clock,
  );
  const { fileRoots, cacheDir, cacheMaxBytes } = options;
  const fetcher = new Fetcher({
    client: clients.downloads,
    events,
    trackingUri,
    fileRoots,
    breakerOf: origin => circuits.artifacts(origin),
    floor: PROGRESS_FLOOR,
    clock,
    stop: stopping.signal,
  });
  const own = scopeOf(registryUri, workspace, null);
  const cache = new Cache({ dir: cacheDir, own, clock, events, limits: cacheLimitsOf(options) });
  await within(openWaitMs, cache.open());
  const pipeline = new Pipeline({ registry, fetcher, watch, clock, events, stop: stopping.signal });
  const shared = { watch, registryUri, workspace, clock, events };
  const store = () => cache.store();
  const reloader = new DeadlineReloader({ ...shared, servers, pipeline, store, mlflowUri: trackingUri });
  const proxy = createProxy(options, {
    asks: { registry: servers.registry.asks, tracking: servers.tracking.asks },
    ...{ registry, watch, cache, fetcher, reloader, circuits, clients, events },
    transport: relayed,
    floor: PROGRESS_FLOOR,
    stop: stopping.signal,
  });
  return {
    reloader,
    proxy,
    jobs: new KeptJobs({ records: new JobRecords(cache, events), reloader, scope: own.id, clock, events }),
    catalog: new CachedModels({
      ...shared,
      circuits,
      health: servers.registry.health,
      cache,
      cacheDir,
      cacheMaxBytes,
    }),
    cache,
    isThere: uri => (cache.opened?.refs.get(own, uri).published ?? null) !== null,
    abort: reason => stopping.abort(reason),
    close: async () => {
      stopping.abort(
        new SidecarError('internal', 'The sidecar is stopping.', { hint: 'Ask again when it is back.' }),
      );
      await Promise.all([questions.close(), downloads.close(), relayed.close()]);
      circuits.close();
      return await cache.close();
    },
  };
}

function breakerLimits({ breakerFailures, breakerResetS }: Options): BreakerLimits {
  return { failures: breakerFailures, resetMs: breakerResetS * 1_000 };
}

/** One for each server: an artifact server that is MLflow's own is asked by MLflow's address. */
function healthProbes(
  { mlflow: { registryUri, trackingUri, tryTimeoutMs: timeoutMs } }: Options,
  client: MlflowClient,
  stop: AbortSignal,
): (uri: string) => HealthProbe {
  const make = (baseUri: string) => new HealthProbe({ client, baseUri, clock, timeoutMs, stop });
  const registry = make(registryUri);
  const tracking = registryUri === trackingUri ? registry : make(trackingUri);
  return uri => {
    if (uri === registryUri) return registry;
    return new URL(uri).origin === new URL(trackingUri).origin ? tracking : make(uri);
  };
}

/** Whether something in the cache was fetched from there: it answered an earlier process. */
function isKnown(uri: string, { mlflow }: Options, refs: readonly Ref[]): boolean {
  const { host, origin } = new URL(uri);
  const isMlflow = [mlflow.registryUri, mlflow.trackingUri].some(known => new URL(known).origin === origin);
  return refs.some(({ published }) =>
    isMlflow ? published !== null : published?.root?.some(part => part.includes(`//${host}/`)),
  );
}

/** One queue and one health for each server, of which there is often but one, and a breaker for each part of its API. */
function askedServers(
  { mlflow }: Options,
  client: MlflowClient,
  circuits: Circuits,
  healthOf: (uri: string) => HealthProbe,
  events: EventBus,
) {
  const { registryUri, trackingUri } = mlflow;
  const breakerOf = ({ path }: Question) => (isOfRegistry(path) ? circuits.registry : circuits.tracking);
  const server = (baseUri: string) => {
    const health = healthOf(baseUri);
    const asks = new RegistryClient({ ...mlflow, client, baseUri, events, breakerOf, health });
    return { asks, health };
  };
  const registry = server(registryUri);
  const tracking = registryUri === trackingUri ? registry : server(trackingUri);
  return {
    registry: { ...registry, breaker: circuits.registry },
    tracking: { ...tracking, breaker: circuits.tracking },
  };
}

export function cacheLimitsOf({ cacheMaxBytes, maxStaleS, models }: CacheOptions): CacheLimits {
  return {
    maxBytes: cacheMaxBytes,
    maxStaleMs: maxStaleS * 1_000,
    models: new Set(models.map(formatModelUri)),
  };
}
