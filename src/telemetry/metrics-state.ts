import { BREAKER_STATES } from '../domain/outcome.ts';
import type { MetricSet } from './metric-set.ts';
import type { MetricSources } from './metric-sources.ts';

const MAX_BREAKERS = 100;

type State = Pick<MetricSources, 'breakers' | 'cache' | 'cacheMaxBytes' | 'work' | 'jobsRunning'>;

/** Shows how things are at the moment of the scrape. */
export function showState(
  set: MetricSet,
  { breakers, cache, cacheMaxBytes, work, jobsRunning }: State,
): void {
  set.gauge('mlflow_sidecar_calls_waiting', 'Reloads that are not answered yet.', () => work().calls);
  set.gauge(
    'mlflow_sidecar_runs_in_flight',
    'Runs that are not over; callers share them.',
    () => work().runs,
  );
  set.gauge(
    'mlflow_sidecar_questions_waiting',
    'Questions to MLflow that wait for their turn.',
    () => work().questions,
  );
  set.countedElsewhere(
    'mlflow_sidecar_runs_joined_total',
    'Reloads that joined a run instead of starting one.',
    () => work().joined,
  );
  set.gauge('mlflow_sidecar_jobs_running', 'Asynchronous reloads that have not ended.', jobsRunning);
  set.gauge('mlflow_sidecar_cache_usable', 'Whether the cache directory can be read and written.', () =>
    Number(cache().usable),
  );
  set.gauge('mlflow_sidecar_cache_bytes', 'What the published versions take.', () => cache().bytes);
  set.gauge(
    'mlflow_sidecar_cache_max_bytes',
    'What the cache may hold: SIDECAR_CACHE_MAX_BYTES.',
    () => cacheMaxBytes,
  );
  set.gauge(
    'mlflow_sidecar_cache_used_bytes',
    'What the cache holds of that, as last counted; absent until then.',
    () => cache().used_bytes,
  );
  set.gauge(
    'mlflow_sidecar_cache_free_bytes',
    'What was free on its file system when somebody last looked.',
    () => cache().free_bytes,
  );
  set.gauge(
    'mlflow_sidecar_cache_refs',
    'URIs with a published version, of all credentials.',
    () => cache().models,
  );
  set.gauges(
    'mlflow_sidecar_breaker_state',
    'Circuit breakers: 1 for the state that one is in, 0 for the others.',
    ['name', 'host', 'state'],
    () =>
      breakers()
        .slice(0, MAX_BREAKERS)
        .flatMap(({ name, host, state }) =>
          BREAKER_STATES.map(each => ({
            labels: { name, host, state: each },
            value: Number(each === state),
          })),
        ),
  );
}
