import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import type { Server } from 'node:http';
import type { CacheOptions } from './config/cache.ts';
import type { Options } from './config/options.ts';
import { packageVersion } from './config/version.ts';
import { type Core, cacheLimitsOf, createCore } from './core.ts';
import type { Caller } from './domain/caller.ts';
import { systemClock as clock } from './domain/clock.ts';
import type { EventBus } from './domain/events.ts';
import type { ModelUri } from './domain/model-uri.ts';
import type { Outcome } from './domain/outcome.ts';
import { createHttpApp, createMetricsApp } from './http/app.ts';
import type { HttpDeps } from './http/deps.ts';
import { BY_API_OPTIONS, BY_METRICS_OPTION, listen } from './http/listen.ts';
import { createHttpServer } from './http/server.ts';
import { Prewarm } from './prewarm/prewarm.ts';
import { Scrubber } from './reload/scrubber.ts';
import { type CollectedOnce, collectCache } from './store/collect/collect-once.ts';
import { createMetrics, type Metrics } from './telemetry/metrics.ts';

const IDLE_CHECK_MS = 20;
/** A disk that hangs at the start must not keep the process from saying so. */
const OPEN_WAIT_MS = 5_000;

const OURSELVES: Caller = { requestId: '', airflow: {}, authorization: null };

export interface RunningApp {
  readonly url: string;
  /** Of metrics and health alone; null where they have no address of their own. */
  readonly metricsUrl: string | null;
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

/**
 * Starts the sidecar; it listens when this resolves.
 * @param scrubAfterMs milliseconds to the first verification of the cache; for tests, which cannot wait for it
 */
export async function startApp(
  options: Options,
  events: EventBus,
  scrubAfterMs?: number,
): Promise<RunningApp> {
  const core = await createCore(options, events, OPEN_WAIT_MS);
  const { cache, reloader } = core;
  const scrubber = new Scrubber({
    cache,
    reloader,
    isOwner: () => cache.opened?.ownership.isOwner() ?? false,
    clock,
    events,
    scrubAfterMs,
  });
  const prewarm = new Prewarm({ options, reloader, isThere: core.isThere, clock, events });
  const metrics = metricsOf(core, prewarm, options, events);
  const deps: HttpDeps = {
    reloader: core.reloader,
    jobs: core.jobs,
    proxy: core.proxy,
    catalog: core.catalog,
    clock,
    events,
    settings: {
      ...options,
      upstreams: { registry: options.mlflow.registryUri, tracking: options.mlflow.trackingUri },
    },
    isReady: () => {
      const isWorking = cache.problem === null || cache.canGive;
      return { ready: isWorking && prewarm.problem === null, problem: cache.problem ?? prewarm.problem };
    },
    prewarm: () => prewarm.state(),
    version: packageVersion(),
    metrics: metrics.scrape,
  };
  const server = createHttpServer(createHttpApp(deps), events, options);
  const { metricsAddr } = options;
  const forMetrics =
    metricsAddr === null ? null : createHttpServer(createMetricsApp(deps), events, { proxy: 'off' });
  try {
    server.once('close', metrics.close);
    if (forMetrics !== null && metricsAddr !== null) await listen(forMetrics, metricsAddr, BY_METRICS_OPTION);
    await listen(server, options, BY_API_OPTIONS);
  } catch (error) {
    forMetrics?.close();
    metrics.close();
    await core.close();
    throw error;
  }
  scrubber.start();
  core.jobs.start();
  prewarm.start();
  const stopAll = async (signal: AbortSignal) => {
    prewarm.stop();
    forMetrics?.close();
    forMetrics?.closeAllConnections();
    const [isWhole] = await Promise.all([stop(server, core, signal), scrubber.stop()]);
    return isWhole;
  };
  const metricsUrl = forMetrics === null ? null : urlOf(forMetrics, metricsAddr?.host ?? null);
  return { url: urlOf(server, options.host), metricsUrl, stop: stopAll };
}

function metricsOf(core: Core, prewarm: Prewarm, options: Options, events: EventBus): Metrics {
  const { catalog, reloader, jobs } = core;
  const { models: configured, maxStaleS, cacheMaxBytes } = options;
  return createMetrics(events, {
    configured,
    maxStaleS,
    cacheMaxBytes,
    version: packageVersion(),
    models: () => catalog.models(OURSELVES),
    model: name => catalog.model(OURSELVES, name),
    cache: () => catalog.cache(),
    work: () => reloader.work(),
    jobsRunning: () => jobs.running,
    breakers: () => catalog.breakers(),
    prewarm: () => prewarm.state(),
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

/**
 * One collection without a server; `isDry` only plans it.
 * @returns null where there is no cache
 */
export async function collectOnce(options: CacheOptions, isDry: boolean): Promise<CollectedOnce | null> {
  return await collectCache(options.cacheDir, { limits: cacheLimitsOf(options), isDry, clock });
}

async function stop(server: Server, core: Core, signal: AbortSignal): Promise<boolean> {
  const hurry = () => server.closeAllConnections();
  signal.addEventListener('abort', hurry, { once: true });
  const closed = once(server, 'close');
  server.close();
  await core.jobs.stop();
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

/** @param host null for every address */
function urlOf(server: Server, host: string | null): string {
  const address = server.address();
  const { port, address: bound } =
    typeof address === 'object' && address !== null ? address : { port: '', address: '' };
  const shown = host ?? bound;
  return `http://${shown.includes(':') ? `[${shown}]` : shown}:${port}`;
}
