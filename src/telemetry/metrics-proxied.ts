import type { Counter } from '@prometheus-io/client';
import { PROXY_SOURCES, type SidecarEvent } from '../domain/events.ts';
import type { MetricSet } from './metric-set.ts';

/** Counts what MLflow's own clients were answered. */
export class Proxied {
  readonly #answers: Counter<'source' | 'stale'>;

  constructor(set: MetricSet) {
    this.#answers = set.counter(
      'mlflow_sidecar_proxied_total',
      'Answers to MLflow’s own clients. source: mlflow (asked), kept, store, download or passed. stale: the code of why MLflow was not waited for, empty where it was.',
      ['source', 'stale'],
    );
    for (const source of PROXY_SOURCES) this.#answers.inc({ source, stale: '' }, 0);
  }

  count({ source, stale }: SidecarEvent & { readonly type: 'proxied' }): void {
    this.#answers.inc({ source, stale: stale ?? '' });
  }
}
