import { PREWARM_REASONS } from '../domain/caller.ts';
import type { EventBus } from '../domain/events.ts';
import type { MetricSet } from './metric-set.ts';
import type { MetricSources } from './metric-sources.ts';

/** So many URIs are shown. */
const MAX_URIS = 1_000;

/** Counts what is loaded before anybody asks, and shows when that is done next. */
export function showPrewarm(set: MetricSet, events: EventBus, look: MetricSources['prewarm']): void {
  const runs = set.counter(
    'mlflow_sidecar_prewarm_runs_total',
    'Models loaded before anybody asked. reason: schedule, or warmup at the start. status, code: as of a reload; code is empty without a warning.',
    ['reason', 'status', 'code'],
  );
  for (const reason of PREWARM_REASONS)
    for (const status of ['loaded', 'unchanged']) runs.inc({ reason, status, code: '' }, 0);
  const skipped = set.counter(
    'mlflow_sidecar_prewarm_skipped_total',
    'Times of schedules that were left out, since the run before was not over.',
  );
  events.subscribe(event => {
    if (event.type === 'prewarm_finished') {
      const { status, warning } = event.outcome;
      runs.inc({ reason: event.reason, status, code: warning?.code ?? '' });
    }
    if (event.type === 'prewarm_skipped') skipped.inc();
  });
  const times = (timeOf: (shown: ReturnType<typeof look>[number]) => number | null) => () =>
    look()
      .slice(0, MAX_URIS)
      .flatMap(shown => {
        const value = timeOf(shown);
        return value === null ? [] : { labels: { model_uri: shown.model_uri }, value };
      });
  set.gauges(
    'mlflow_sidecar_prewarm_next_run_timestamp_seconds',
    'When a model is loaded next by its schedule, in seconds since 1970.',
    ['model_uri'],
    times(({ next_run_at: at }) => at),
  );
  set.gauges(
    'mlflow_sidecar_prewarm_last_run_timestamp_seconds',
    'When a model was last loaded before anybody asked: that run’s beginning, in seconds since 1970.',
    ['model_uri'],
    times(({ last_run: last }) => last?.at ?? null),
  );
}
