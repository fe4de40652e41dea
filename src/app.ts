import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import type { Server } from 'node:http';
import type { Options } from './config/options.ts';
import { packageVersion } from './config/version.ts';
import type { Caller } from './domain/caller.ts';
import { systemClock as clock } from './domain/clock.ts';
import { SidecarError } from './domain/errors.ts';
import type { EventBus } from './domain/events.ts';
import { formatModelUri, type ModelUri } from './domain/model-uri.ts';
import type { Outcome } from './domain/outcome.ts';
import { scopeOf } from './domain/scope.ts';
import { createHttpApp } from './http/app.ts';
import { createHttpServer } from './http/server.ts';
import { within } from './policy/abort.ts';
import type { Breaker } from './policy/breaker.ts';
import type { BreakerLimits } from './policy/breaker-rules.ts';
import { RegistryClient } from './registry/client.ts';
import { Registry } from './registry/registry.ts';
import { Runs } from './registry/runs.ts';
import { CachedModels } from './reload/catalog.ts';
import { Fetcher } from './reload/fetcher.ts';
import { Pipeline } from './reload/pipeline.ts';
import { RegistryWatch } from './reload/registry-watch.ts';
import { DeadlineReloader } from './reload/reloader.ts';
import { Cache } from './store/cache.ts';
import type { CacheLimits } from './store/collector.ts';
import { createMetrics, type Metrics } from './telemetry/metrics.ts';
import { Circuits } from './upstream/circuits.ts';
import { Credentials } from './upstream/credentials.ts';
import { systemNames } from './upstream/dns-system.ts';
import { HealthProbe } from './upstream/health.ts';
import { MlflowClient } from './upstream/mlflow-client.ts';
import { Transport } from './upstream/transport.ts';

/** A trickle is a hang: below 64 KiB/s over any 30 s a download is given up. */
const PROGRESS_FLOOR = { bytesPerSecond: 64 * 1024, windowS: 30 };

const IDLE_CHECK_MS = 20;
/** Callers that come at once, such as a DAG's mapped tasks, wait in the system rather than for its next try to connect. */
const BACKLOG = 1_024;
/** A disk that hangs at the start must not keep the process from saying so. */
const OPEN_WAIT_MS = 5_000;

const OURSELVES: Caller = { requestId: '', airflow: {}, authorization: null };

export interface RunningApp {
  readonly url: string;
  /**
   * Stops listening, ends the work under way and leaves nothing torn; in a hurry once `signal` aborts.
   * @returns whether all of it ended; what hangs on the disk does not
   */
  stop(signal: AbortSignal): Promise<boolean>;
}

export interface FetchLimits {
  readonly deadlineMs: number;
  readonly signal: AbortSignal;
}

/** Everything but the HTTP server. */
interface Core {
  readonly reloader: DeadlineReloader;
  readonly catalog: CachedModels;
  readonly cache: Cache;
  /** Ends the work under way. */
  readonly abort: (reason: Error) => void;
  readonly close: () => Promise<boolean>;
}

/** Starts the sidecar; it listens when this resolves. */
export async function startApp(options: Options, events: EventBus): Promise<RunningApp> {
  const core = await createCore(options, events, OPEN_WAIT_MS);
  const metrics = metricsOf(core, options, events);
  const app = createHttpApp({
    reloader: core.reloader,
    catalog: core.catalog,
    clock,
    events,
    settings: options,
    isReady: () => ({ ready: core.cache.problem === null, problem: core.cache.problem }),
    version: packageVersion(),
    metrics: metrics.scrape,
  });
  const server = createHttpServer(app, events);
  try {
    server.listen(options.port, options.host, BACKLOG);
    await once(server, 'listening');
    server.once('close', metrics.close);
  } catch (error) {
    await core.close();
    throw error;
  }
  return { url: urlOf(server, options.host), stop: signal => stop(server, core, signal) };
}

function metricsOf({ catalog, reloader }: Core, options: Options, events: EventBus): Metrics {
  const { models: configured, maxStaleS, cacheMaxBytes } = options;
  return createMetrics(events, {
    configured,
    maxStaleS,
    cacheMaxBytes,
    version: packageVersion(),
    models: () => catalog.models(OURSELVES),
    cache: () => catalog.cache(),
    work: () => reloader.work(),
    breakers: () => catalog.breakers(),
  });
}

/** One reload without a server; what it publishes is in the options' cache directory. */
export async function fetchOnce(
  options: Options,
  uri: ModelUri,
  { deadlineMs, signal }: FetchLimits,
  events: EventBus,
): Promise<{ readonly outcome: Outcome }> {
  const core = await createCore(options, events, deadlineMs);
  const interrupt = () => core.abort(signal.reason);
  signal.addEventListener('abort', interrupt, { once: true });
  try {
    const startedAt = clock.monotonic();
    const outcome = await core.reloader.reload({
      uri,
      caller: { requestId: randomUUID(), airflow: {}, authorization: null },
      startedAt,
      deadlineAt: startedAt + deadlineMs,
      refreshWaitMs: options.refreshWaitS * 1_000,
      maxStaleMs: options.maxStaleS * 1_000,
      force: false,
    });
    return { outcome };
  } finally {
    signal.removeEventListener('abort', interrupt);
    await core.close();
  }
}

async function createCore(options: Options, events: EventBus, openWaitMs: number): Promise<Core> {
  const { mlflow } = options;
  const { workspace, registryUri, trackingUri } = mlflow;
  const stopping = new AbortController();
  const names = systemNames();
  // Apart, so that downloads that hang hold no connection that a question to the registry needs.
  const [questions, downloads] = await Promise.all([
    Transport.open(mlflow, names),
    Transport.open(mlflow, names),
  ]);
  const trustedOrigins = new Set([trackingUri, registryUri].map(uri => new URL(uri).origin));
  const credentials = new Credentials(mlflow.credentials);
  const over = (transport: Transport) =>
    new MlflowClient({ transport, credentials, workspace, trustedOrigins });
  const circuits = new Circuits({ registryUri, trackingUri, limits: breakerLimits(options), clock, events });
  const servers = askedServers(options, over(questions), circuits, stopping.signal, events);
  const registry = new Registry(servers.registry.asks, new Runs(servers.tracking.asks));
  const watch = new RegistryWatch(
    { uri: trackingUri, registry_uri: registryUri },
    options.refreshWaitS * 1_000,
    clock,
  );
  const { fileRoots, cacheDir } = options;
  const fetcher = new Fetcher({
    client: over(downloads),
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
  return {
    reloader: new DeadlineReloader({ ...shared, servers, pipeline, store, mlflowUri: trackingUri }),
    catalog: new CachedModels({ ...shared, circuits, health: servers.registry.health, cache, cacheDir }),
    cache,
    abort: reason => stopping.abort(reason),
    close: async () => {
      stopping.abort(
        new SidecarError('internal', 'The sidecar is stopping.', { hint: 'Ask again when it is back.' }),
      );
      await Promise.all([questions.close(), downloads.close()]);
      circuits.close();
      return await cache.close();
    },
  };
}

function breakerLimits({ breakerFailures, breakerResetS }: Options): BreakerLimits {
  return { failures: breakerFailures, resetMs: breakerResetS * 1_000 };
}

/** One queue, breaker and health for each server, of which there is often but one. */
function askedServers(
  { mlflow }: Options,
  client: MlflowClient,
  circuits: Circuits,
  stopping: AbortSignal,
  events: EventBus,
) {
  const { registryUri, trackingUri } = mlflow;
  const server = (baseUri: string, breaker: Breaker) => {
    const health = new HealthProbe({ client, baseUri, clock, stop: stopping });
    const asks = new RegistryClient({ ...mlflow, client, baseUri, events, breaker, health });
    return { asks, breaker, health };
  };
  const registry = server(registryUri, circuits.registry);
  return {
    registry,
    tracking: registryUri === trackingUri ? registry : server(trackingUri, circuits.tracking),
  };
}

function cacheLimitsOf({ cacheMaxBytes, maxStaleS, models }: Options): CacheLimits {
  return {
    maxBytes: cacheMaxBytes,
    maxStaleMs: maxStaleS * 1_000,
    models: new Set(models.map(formatModelUri)),
  };
}

async function stop(server: Server, core: Core, signal: AbortSignal): Promise<boolean> {
  const hurry = () => server.closeAllConnections();
  signal.addEventListener('abort', hurry, { once: true });
  const closed = once(server, 'close');
  server.close();
  // Callers that wait are answered by it: their runs fail at once.
  const isWhole = await core.close();
  // A kept-alive connection is idle only once its last answer is out.
  const closeIdle = setInterval(() => server.closeIdleConnections(), IDLE_CHECK_MS);
  if (signal.aborted) hurry();
  await closed;
  clearInterval(closeIdle);
  signal.removeEventListener('abort', hurry);
  return isWhole;
}

function urlOf(server: Server, host: string): string {
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : '';
  return `http://${host.includes(':') ? `[${host}]` : host}:${port}`;
}
