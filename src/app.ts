import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import type { Server } from 'node:http';
import type { Options } from './config/options.ts';
import { packageVersion } from './config/version.ts';
import { systemClock as clock } from './domain/clock.ts';
import { SidecarError } from './domain/errors.ts';
import type { EventBus } from './domain/events.ts';
import { formatModelUri, type ModelUri } from './domain/model-uri.ts';
import type { Outcome } from './domain/outcome.ts';
import { scopeOf } from './domain/scope.ts';
import { createHttpApp } from './http/app.ts';
import { createHttpServer } from './http/server.ts';
import { RegistryClient } from './registry/client.ts';
import { Registry } from './registry/registry.ts';
import { Runs } from './registry/runs.ts';
import { CachedModels } from './reload/catalog.ts';
import { Fetcher } from './reload/fetcher.ts';
import { Pipeline } from './reload/pipeline.ts';
import { RegistryWatch } from './reload/registry-watch.ts';
import { DeadlineReloader } from './reload/reloader.ts';
import { Cache } from './store/cache.ts';
import { type CacheLimits, NO_DEMAND } from './store/collector.ts';
import { Store } from './store/store.ts';
import { Credentials } from './upstream/credentials.ts';
import { MlflowClient } from './upstream/mlflow-client.ts';
import { Transport } from './upstream/transport.ts';

/** A trickle is a hang: below 64 KiB/s over any 30 s a download is given up. */
const PROGRESS_FLOOR = { bytesPerSecond: 64 * 1024, windowS: 30 };

const IDLE_CHECK_MS = 20;

export interface RunningApp {
  readonly url: string;
  /** Stops listening, ends the work under way and leaves nothing torn; in a hurry once `signal` aborts. */
  stop(signal: AbortSignal): Promise<void>;
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
  readonly close: () => Promise<void>;
}

/** Starts the sidecar; it listens when this resolves. */
export async function startApp(options: Options, events: EventBus): Promise<RunningApp> {
  const core = await createCore(options, events);
  const app = createHttpApp({
    reloader: core.reloader,
    catalog: core.catalog,
    clock,
    events,
    settings: options,
    isReady: () => ({ ready: core.cache.problem === null, problem: core.cache.problem }),
    version: packageVersion(),
  });
  const server = createHttpServer(app);
  try {
    server.listen(options.port, options.host);
    await once(server, 'listening');
  } catch (error) {
    await core.close();
    throw error;
  }
  return { url: urlOf(server, options.host), stop: signal => stop(server, core, signal) };
}

/** One reload without a server; what it publishes is in the options' cache directory. */
export async function fetchOnce(
  options: Options,
  uri: ModelUri,
  { deadlineMs, signal }: FetchLimits,
  events: EventBus,
): Promise<{ readonly outcome: Outcome }> {
  const core = await createCore(options, events);
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

/** One collection without a server; `isDry` only plans it. `ownerPid` is of a living process that owns the cache instead. */
export async function collectOnce(options: Options, isDry: boolean, events: EventBus) {
  const { registryUri, workspace } = options.mlflow;
  const own = scopeOf(registryUri, workspace, null);
  const store = await Store.open(options.cacheDir, own, clock, events, cacheLimitsOf(options));
  try {
    if (store.problem !== null && !isDry) throw store.problem;
    const [owner] = await store.ownership.living();
    const isOwner = await store.ownership.check();
    const collection = isDry ? await store.collector.foresee() : await store.collector.collect(NO_DEMAND);
    return { collection, ownerPid: isOwner ? null : (owner?.pid ?? null) };
  } finally {
    await store.close();
  }
}

async function createCore(options: Options, events: EventBus): Promise<Core> {
  const { mlflow } = options;
  const { workspace, registryUri, trackingUri } = mlflow;
  const stopping = new AbortController();
  // Apart, so that downloads that hang hold no connection that a question to the registry needs.
  const [questions, downloads] = await Promise.all([Transport.open(mlflow), Transport.open(mlflow)]);
  const trustedOrigins = new Set([trackingUri, registryUri].map(uri => new URL(uri).origin));
  const credentials = new Credentials(mlflow.credentials);
  const over = (transport: Transport) =>
    new MlflowClient({ transport, credentials, workspace, trustedOrigins });
  const asks = (baseUri: string) =>
    new RegistryClient({ ...mlflow, client: over(questions), baseUri, events });
  const registry = new Registry(asks(registryUri), new Runs(asks(trackingUri)));
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
    floor: PROGRESS_FLOOR,
    clock,
    stop: stopping.signal,
  });
  const own = scopeOf(registryUri, workspace, null);
  const cache = new Cache({ dir: cacheDir, own, clock, events, limits: cacheLimitsOf(options) });
  await cache.open();
  const pipeline = new Pipeline({ registry, fetcher, watch, clock, events, stop: stopping.signal });
  const shared = { watch, registryUri, workspace, clock, events };
  const store = () => cache.store();
  return {
    reloader: new DeadlineReloader({ ...shared, pipeline, store, mlflowUri: trackingUri }),
    catalog: new CachedModels({ ...shared, cache, cacheDir, cacheMaxBytes: options.cacheMaxBytes }),
    cache,
    abort: reason => stopping.abort(reason),
    close: async () => {
      stopping.abort(
        new SidecarError('internal', 'The sidecar is stopping.', { hint: 'Ask again when it is back.' }),
      );
      await Promise.all([questions.close(), downloads.close()]);
      await cache.close();
    },
  };
}

function cacheLimitsOf({ cacheMaxBytes, maxStaleS, models }: Options): CacheLimits {
  return {
    maxBytes: cacheMaxBytes,
    maxStaleMs: maxStaleS * 1_000,
    models: new Set(models.map(formatModelUri)),
  };
}

async function stop(server: Server, core: Core, signal: AbortSignal): Promise<void> {
  const hurry = () => server.closeAllConnections();
  signal.addEventListener('abort', hurry, { once: true });
  const closed = once(server, 'close');
  server.close();
  // Callers that wait are answered by it: their runs fail at once.
  await core.close();
  // A kept-alive connection is idle only once its last answer is out.
  const closeIdle = setInterval(() => server.closeIdleConnections(), IDLE_CHECK_MS);
  if (signal.aborted) hurry();
  await closed;
  clearInterval(closeIdle);
  signal.removeEventListener('abort', hurry);
}

function urlOf(server: Server, host: string): string {
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : '';
  return `http://${host.includes(':') ? `[${host}]` : host}:${port}`;
}
