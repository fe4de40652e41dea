import type { MetricValue } from '@prometheus-io/client';
import { formatModelUri, type ModelUri, refKey } from '../domain/model-uri.ts';
import type { ModelSummary } from '../reload/api.ts';
import type { MetricSet } from './metric-set.ts';
import type { MetricSources } from './metric-sources.ts';

/** So many URIs are shown, the configured ones first. */
const MAX_REFS = 1_000;

/** What there is to give for one URI. */
interface Shown {
  readonly labels: Readonly<Record<'model' | 'ref', string>>;
  /** Null where nothing is published. */
  readonly published: { readonly version: string; readonly ageS: number } | null;
}

interface Models {
  /** Told before each scrape what is cached. */
  readonly see: (models: readonly ModelSummary[]) => void;
}

export function showModels(
  set: MetricSet,
  { configured, maxStaleS }: Pick<MetricSources, 'configured' | 'maxStaleS'>,
): Models {
  let shown: readonly Shown[] = [];
  const ofPublished = <L extends string>(sample: (ref: Given) => MetricValue<L>) => {
    return () =>
      shown.flatMap(({ labels, published }) => (published === null ? [] : sample({ labels, published })));
  };
  set.gauges(
    'mlflow_sidecar_model_published',
    'Whether there is a version to give; 0 for a configured URI that has none.',
    ['model', 'ref'],
    () => shown.map(({ labels, published }) => ({ labels, value: published === null ? 0 : 1 })),
  );
  set.gauges(
    'mlflow_sidecar_model_age_seconds',
    'Since MLflow last confirmed the published version.',
    ['model', 'ref'],
    ofPublished(({ labels, published }) => ({ labels, value: published.ageS })),
  );
  set.gauges(
    'mlflow_sidecar_model_stale_seconds_left',
    'Until the published version is older than SIDECAR_MAX_STALE_S and is not given any more; below 0 after that.',
    ['model', 'ref'],
    ofPublished(({ labels, published }) => ({ labels, value: maxStaleS - published.ageS })),
  );
  set.gauges(
    'mlflow_sidecar_model_info',
    'The published version; the value is always 1.',
    ['model', 'ref', 'version'],
    ofPublished(({ labels, published }) => ({ labels: { ...labels, version: published.version }, value: 1 })),
  );
  return {
    see: models => {
      shown = shownOf(models, configured);
    },
  };
}

type Given = Shown & { readonly published: NonNullable<Shown['published']> };

function shownOf(models: readonly ModelSummary[], configured: readonly ModelUri[]): readonly Shown[] {
  const wanted = new Map<string, Shown>();
  for (const uri of configured) {
    const { name: model, ref } = refKey(uri);
    wanted.set(formatModelUri(uri), { labels: { model, ref }, published: null });
  }
  for (const { name: model, refs } of models) {
    for (const { model_uri: uri, ref, version, path, age_s: ageS } of refs) {
      if (path === null || ageS === null) continue;
      wanted.set(uri, { labels: { model, ref }, published: { version: version ?? '', ageS } });
    }
  }
  return [...wanted.values()].slice(0, MAX_REFS);
}
