import type { ModelUri } from '../domain/model-uri.ts';
import type { BreakerState } from '../domain/outcome.ts';
import type { CacheState, ModelSummary, WorkState } from '../reload/api.ts';

/** What is looked at for each scrape; none of it may wait. */
export interface MetricSources {
  /** What the sidecar's own credential has in the cache. */
  readonly models: () => Iterable<ModelSummary>;
  /** One of them. */
  readonly model: (name: string) => ModelSummary | null;
  readonly cache: () => Pick<CacheState, 'usable' | 'models' | 'bytes' | 'used_bytes' | 'free_bytes'>;
  readonly work: () => WorkState;
  readonly jobsRunning: () => number;
  readonly breakers: () => readonly BreakerLook[];
  readonly prewarm: () => readonly PrewarmLook[];
  readonly configured: readonly ModelUri[];
  readonly maxStaleS: number;
  readonly cacheMaxBytes: number;
  readonly version: string;
}

interface PrewarmLook {
  readonly model_uri: string;
  /** Seconds since 1970. */
  readonly next_run_at: number | null;
  readonly last_run: { readonly at: number } | null;
}

interface BreakerLook {
  readonly name: string;
  readonly host: string;
  readonly state: BreakerState;
}
