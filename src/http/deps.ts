import type { ProxyMode } from '../config/options.ts';
import type { Clock } from '../domain/clock.ts';
import type { EventBus } from '../domain/events.ts';
import type { ModelUri } from '../domain/model-uri.ts';
import type { Jobs } from '../jobs/api.ts';
import type { PrewarmState } from '../prewarm/api.ts';
import type { MlflowProxy } from '../proxy/proxy.ts';
import type { Catalog, Reloader } from '../reload/api.ts';

export interface HttpSettings {
  /** What a caller must show; null lets everyone in and sends the caller's own `Authorization` on to MLflow. */
  readonly token: string | null;
  /** Host names or patterns of them that requests may be meant for, besides loopback ones; `*` is any. */
  readonly allowedHosts: readonly string[];
  /** Patterns of canonical model URIs that may be asked for; empty allows everything. */
  readonly allow: readonly string[];
  /** What a reload that names no model is for. */
  readonly models: readonly ModelUri[];
  readonly reloadDeadlineS: number;
  readonly reloadDeadlineMaxS: number;
  readonly refreshWaitS: number;
  readonly maxStaleS: number;
  /** What MLflow's own clients may do. */
  readonly proxy: ProxyMode;
  /** MLflow's addresses, without a slash at their ends. */
  readonly upstreams: { readonly registry: string; readonly tracking: string };
}

export interface HttpDeps {
  readonly reloader: Reloader;
  readonly jobs: Jobs;
  readonly proxy: Pick<MlflowProxy, keyof MlflowProxy>;
  readonly catalog: Catalog;
  readonly clock: Clock;
  readonly events: EventBus;
  readonly settings: HttpSettings;
  /** Whether callers may be sent here, and if not, why; asked on every probe, so it must not wait. */
  /** Where it is ready, `problem` is why not all works: what is cached is given, and nothing new is kept. */
  readonly isReady: () => { readonly ready: boolean; readonly problem: string | null };
  /** Models that are loaded before anybody asks. */
  readonly prewarm: () => readonly PrewarmState[];
  readonly version: string;
  /** In Prometheus' text format. */
  readonly metrics: () => Promise<{ readonly contentType: string; readonly text: string }>;
}
