import type { EventBus } from '../domain/events.ts';
import { MetricSet } from './metric-set.ts';
import type { MetricSources } from './metric-sources.ts';
import { countEvents } from './metrics-events.ts';
import { showModels } from './metrics-models.ts';
import { showPrewarm } from './metrics-prewarm.ts';
import { watchProcess } from './metrics-process.ts';
import { showState } from './metrics-state.ts';
import { ModelLabels } from './model-labels.ts';

interface Exposition {
  readonly contentType: string;
  readonly text: string;
}

export interface Metrics {
  readonly descriptions: MetricSet['descriptions'];
  /** All of them in Prometheus' text format. */
  readonly scrape: () => Promise<Exposition>;
  readonly close: () => void;
}

/** Counts from now on. */
export function createMetrics(events: EventBus, sources: MetricSources): Metrics {
  const set = new MetricSet();
  const labels = new ModelLabels(sources.configured);
  labels.learn(sources.models());
  countEvents(set, events, labels);
  const models = showModels(set, sources);
  showState(set, sources);
  showPrewarm(set, events, sources.prewarm);
  const close = watchProcess(set, sources.version);
  return {
    descriptions: set.descriptions,
    scrape: async () => {
      labels.learn(sources.models());
      models.see();
      return { contentType: set.registry.contentType, text: await set.registry.metrics() };
    },
    close,
  };
}
