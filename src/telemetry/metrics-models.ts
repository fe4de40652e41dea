import type { MetricValue } from '@prometheus-io/client';
import { formatModelUri, refKey } from '../domain/model-uri.ts';
import type { RefSummary } from '../reload/api.ts';
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
  /** Looks before each scrape at what is cached. */
  readonly see: () => void;
}

export function showModels(
  set: MetricSet,
  sources: Pick<MetricSources, 'configured' | 'maxStaleS' | 'models' | 'model'>,
): Models {
  const { maxStaleS } = sources;
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
    see: () => {
      shown = shownOf(sources);
    },
  };
}

type Given = Shown & { readonly published: NonNullable<Shown['published']> };

function shownOf({
  configured,
  models,
  model: named,
}: Pick<MetricSources, 'configured' | 'models' | 'model'>): readonly Shown[] {
  const wanted = new Map<string, Shown>();
  const see = (model: string, { model_uri: uri, ref, version, path, age_s: ageS }: RefSummary) => {
    if (path === null || ageS === null) return;
    wanted.set(uri, { labels: { model, ref }, published: { version: version ?? '', ageS } });
  };
  for (const uri of configured.slice(0, MAX_REFS)) {
    const text = formatModelUri(uri);
    const { name: model, ref } = refKey(uri);
    wanted.set(text, { labels: { model, ref }, published: null });
    const cached = named(model)?.refs.find(known => known.model_uri === text);
    if (cached !== undefined) see(model, cached);
  }
  for (const { name, refs } of models()) {
    if (wanted.size >= MAX_REFS) break;
    for (const ref of refs) see(name, ref);
  }
  return [...wanted.values()].slice(0, MAX_REFS);
}
