import type { Counter, Histogram } from '@prometheus-io/client';
import { ERROR_CODES, type ErrorCode, isMissing, toSidecarError } from '../domain/errors.ts';
import type { EventBus, Fetched, Phases, SidecarEvent } from '../domain/events.ts';
import { STATUSES } from '../domain/outcome.ts';
import type { MetricSet } from './metric-set.ts';
import { Proxied } from './metrics-proxied.ts';
import { type ModelLabels, OTHER } from './model-labels.ts';

/** From what a cached answer takes to the longest deadline by default. */
const CALL_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600];
/** A run may take two hours. */
const PHASE_BUCKETS = [0.005, 0.025, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 600, 1_800, 7_200];
/** A minute to a month; a week is the oldest that is given by default. */
const AGE_BUCKETS = [60, 300, 900, 3_600, 21_600, 86_400, 172_800, 345_600, 604_800, 2_592_000];

/** Registries name the hosts of artifacts. */
const MAX_HOSTS = 100;

type Of<T extends SidecarEvent['type']> = SidecarEvent & { readonly type: T };

/** Counts what happens. No label comes from outside but a model's name, and that from a bounded set. */
export function countEvents(set: MetricSet, events: EventBus, labels: ModelLabels): void {
  const reloads = new Reloads(set, labels);
  const runs = new Runs(set);
  const failures = new Failures(set);
  const transitions = new Transitions(set);
  const upkeep = new Upkeep(set);
  const proxied = new Proxied(set);
  events.subscribe(event => {
    switch (event.type) {
      case 'reload_finished':
        return reloads.count(event);
      case 'run_finished':
      case 'run_failed':
      case 'run_stopped':
        return runs.count(event);
      case 'version_brought':
        return runs.countFetched(event.fetched);
      case 'proxied':
        return proxied.count(event);
      case 'try_failed':
        return failures.countTry(event);
      case 'request_refused':
        return failures.countRefusal(event);
      case 'requests_shed':
        return failures.countRefusal(event, event.count);
      case 'breaker_changed':
        return transitions.count(event);
      case 'cache_collected':
        return upkeep.countCollection(event);
      case 'blob_damaged':
        return upkeep.countDamage();
    }
  });
}

class Reloads {
  readonly #labels: ModelLabels;
  readonly #total: Counter<'model' | 'status' | 'code'>;
  readonly #duration: Histogram<'status'>;
  readonly #staleAge: Histogram;

  constructor(set: MetricSet, labels: ModelLabels) {
    this.#labels = labels;
    this.#total = set.counter(
      'mlflow_sidecar_reloads_total',
      'Reloads answered. code: the warning’s, empty without one. model: "other" for names that are neither configured nor cached.',
      ['model', 'status', 'code'],
    );
    this.#duration = set.histogram(
      'mlflow_sidecar_reload_duration_seconds',
      'From the first byte of a call to its answer for one model.',
      CALL_BUCKETS,
      ['status'],
    );
    this.#staleAge = set.histogram(
      'mlflow_sidecar_stale_age_seconds',
      'Age of the versions given as stale: since MLflow last confirmed them.',
      AGE_BUCKETS,
    );
    for (const status of STATUSES) this.#duration.zero({ status });
    // So that the first name that is not there adds no series, either.
    for (const code of ERROR_CODES.filter(isMissing))
      this.#total.inc({ model: OTHER, status: 'missing', code }, 0);
  }

  count(event: Of<'reload_finished'>): void {
    // Nobody waited for it; it has metrics of its own.
    if (event.caller.prewarm !== undefined) return;
    const { status, warning, duration_s: seconds, age_s: age } = event.outcome;
    this.#total.inc({ model: this.#labels.of(event), status, code: warning?.code ?? '' });
    this.#duration.observe({ status }, seconds);
    if (status === 'stale' && age !== null) this.#staleAge.observe(age);
  }
}

class Runs {
  readonly #total: Counter<'status' | 'code'>;
  readonly #phases: Histogram<'phase'>;
  readonly #files: Counter;
  readonly #bytes: Counter;

  constructor(set: MetricSet) {
    this.#total = set.counter(
      'mlflow_sidecar_runs_total',
      'Runs that ended. status: loaded, unchanged, stopped (nobody wanted it any more) or failed, then with a code.',
      ['status', 'code'],
    );
    this.#phases = set.histogram(
      'mlflow_sidecar_run_phase_duration_seconds',
      'What a run spent its time on. phase: resolve (which version), list, fetch or publish.',
      PHASE_BUCKETS,
      ['phase'],
    );
    this.#files = set.counter(
      'mlflow_sidecar_fetched_files_total',
      'Files of the versions that were fetched whole.',
    );
    this.#bytes = set.counter(
      'mlflow_sidecar_fetched_bytes_total',
      'Bytes of the versions that were fetched whole.',
    );
    for (const phase of PHASES) this.#phases.zero({ phase });
  }

  count(event: Of<'run_finished' | 'run_failed' | 'run_stopped'>): void {
    this.#total.inc({
      status: statusOf(event),
      code: event.type === 'run_failed' ? codeOf(event.error) : '',
    });
    for (const phase of PHASES) {
      const ms = event.phases[phase];
      if (ms !== undefined) this.#phases.observe({ phase }, ms / 1_000);
    }
    if (event.fetched !== null) this.countFetched(event.fetched);
  }

  countFetched({ files, bytes }: Fetched): void {
    this.#files.inc(files);
    this.#bytes.inc(bytes);
  }
}

class Failures {
  readonly #tries: Counter<'code'>;
  readonly #retries: Counter;
  readonly #refused: Counter<'code'>;

  constructor(set: MetricSet) {
    this.#tries = set.counter(
      'mlflow_sidecar_upstream_tries_failed_total',
      'Requests to MLflow or an artifact server that failed.',
      ['code'],
    );
    this.#retries = set.counter(
      'mlflow_sidecar_upstream_retries_total',
      'Those of them that were tried again.',
    );
    this.#refused = set.counter(
      'mlflow_sidecar_requests_refused_total',
      'Requests to the sidecar that were answered with an error before they came to a reload.',
      ['code'],
    );
  }

  countTry({ error, retryInMs }: Of<'try_failed'>): void {
    this.#tries.inc({ code: codeOf(error) });
    if (retryInMs !== null) this.#retries.inc();
  }

  countRefusal({ error }: Of<'request_refused' | 'requests_shed'>, count = 1): void {
    this.#refused.inc({ code: codeOf(error) }, count);
  }
}

class Transitions {
  readonly #total: Counter<'name' | 'host' | 'to'>;
  readonly #hosts = new Set<string>();

  constructor(set: MetricSet) {
    this.#total = set.counter(
      'mlflow_sidecar_breaker_transitions_total',
      'Changes of the circuit breakers’ states.',
      ['name', 'host', 'to'],
    );
  }

  count({ name, host, to }: Of<'breaker_changed'>): void {
    if (this.#hosts.size < MAX_HOSTS) this.#hosts.add(host);
    this.#total.inc({ name, host: this.#hosts.has(host) ? host : OTHER, to });
  }
}

class Upkeep {
  readonly #snapshots: Counter;
  readonly #bytes: Counter;
  readonly #damaged: Counter;

  constructor(set: MetricSet) {
    this.#snapshots = set.counter(
      'mlflow_sidecar_cache_collected_snapshots_total',
      'Versions that were removed from the cache to keep it within its limits.',
    );
    this.#bytes = set.counter('mlflow_sidecar_cache_freed_bytes_total', 'Bytes that collections freed.');
    this.#damaged = set.counter(
      'mlflow_sidecar_cache_damaged_blobs_total',
      'Files in the cache that were found damaged.',
    );
  }

  countCollection({ snapshots, freedBytes }: Of<'cache_collected'>): void {
    this.#snapshots.inc(snapshots);
    this.#bytes.inc(freedBytes);
  }

  countDamage(): void {
    this.#damaged.inc();
  }
}

const PHASES = ['resolve', 'list', 'fetch', 'publish'] as const satisfies readonly (keyof Phases)[];

function statusOf(event: Of<'run_finished' | 'run_failed' | 'run_stopped'>): string {
  if (event.type === 'run_finished') return event.status;
  return event.type === 'run_failed' ? 'failed' : 'stopped';
}

function codeOf(error: Error): ErrorCode {
  return toSidecarError(error).code;
}
