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
import { createHttpApp } from './http/app.ts';
import { createHttpServer } from './http/server.ts';
import { Scrubber } from './reload/scrubber.ts';
import { type CollectedOnce, collectCache } from './store/collect/collect-once.ts';
import { createMetrics, type Metrics } from './telemetry/metrics.ts';

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
  const metrics = metricsOf(core, options, events);
  const app = createHttpApp({
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
    isReady: () => ({ ready: core.cache.problem === null, problem: core.cache.problem }),
    version: packageVersion(),
    metrics: metrics.scrape,
  });
  const server = createHttpServer(app, events, options);
  try {
    server.listen(options.port, options.host, BACKLOG);
    await once(server, 'listening');
    server.once('close', metrics.close);
  } catch (error) {
    await core.close();
    throw error;
  }
  scrubber.start();
  core.jobs.start();
  const stopAll = (signal: AbortSignal) => Promise.all([stop(server, core, signal), scrubber.stop()]);
  return { url: urlOf(server, options.host), stop: async signal => (await stopAll(signal))[0] };
}

function metricsOf({ catalog, reloader, jobs }: Core, options: Options, events: EventBus): Metrics {
  const { models: configured, maxStaleS, cacheMaxBytes } = options;
  return createMetrics(events, {
    configured,
    maxStaleS,
    cacheMaxBytes,
    version: packageVersion(),
    models: () => catalog.models(OURSELVES),
    cache: () => catalog.cache(),
    work: () => reloader.work(),
    jobsRunning: () => jobs.running,
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

function urlOf(server: Server, host: string): string {
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : '';
  return `http://${host.includes(':') ? `[${host}]` : host}:${port}`;
}
