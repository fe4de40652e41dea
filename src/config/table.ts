import * as kinds from './kinds.ts';
import { MLFLOW_OPTIONS } from './mlflow-table.ts';
import { LOG_LEVELS, PROXY_MODES } from './options.ts';
import { configuredModels, cron, timezone } from './prewarm-kinds.ts';
import { type AnyOption, MAX_SECONDS, option } from './spec.ts';
import { upstream } from './upstream.ts';

const TEN_YEARS_S = 315_360_000;

/** Every option there is. */
export const OPTIONS = {
  trackingUri: option({
    name: 'MLFLOW_TRACKING_URI',
    kind: upstream,
    holdsCredentials: true,
    fallback: null,
    shown: 'must be set',
    meaning: 'MLflow’s address. A user name and password in it are used as basic authentication.',
  }),
  registryUri: option({
    name: 'MLFLOW_REGISTRY_URI',
    kind: upstream,
    holdsCredentials: true,
    fallback: null,
    shown: 'the tracking URI',
    meaning: 'The model registry’s address, where it is another one.',
    why: 'as in MLflow',
  }),
  host: option({
    name: 'SIDECAR_HOST',
    kind: kinds.listenHost,
    fallback: '127.0.0.1',
    meaning: 'The address to listen on. Beyond loopback a token and `SIDECAR_ALLOW` must be set.',
    why: 'nobody beyond the machine or the pod',
  }),
  port: option({
    name: 'SIDECAR_PORT',
    kind: kinds.port,
    fallback: 5080,
    meaning: 'The port to listen on; 0 for any free one.',
  }),
  token: option({
    name: 'SIDECAR_TOKEN',
    kind: kinds.bearer,
    fallback: null,
    meaning: 'The token that callers must show, as bearer or as the password of basic authentication.',
    secret: true,
  }),
  tokenFile: option({
    name: 'SIDECAR_TOKEN_FILE',
    kind: kinds.readableFile,
    fallback: null,
    meaning: 'A file that holds the token.',
  }),
  allowedHosts: option({
    name: 'SIDECAR_ALLOWED_HOSTS',
    kind: kinds.hostPatterns,
    fallback: [],
    shown: 'loopback names',
    meaning:
      'Further hosts that a request’s `Host` may name, as a comma-separated list; `*` stands for anything.',
    why: 'a page in a browser must not reach the sidecar through a name of its own',
  }),
  allow: option({
    name: 'SIDECAR_ALLOW',
    kind: kinds.uriPatterns,
    fallback: [],
    shown: 'all, on loopback',
    meaning:
      'The model URIs that may be asked for, as a comma-separated list of patterns such as `models:/topic-*`.',
  }),
  cacheDir: option({
    name: 'SIDECAR_CACHE_DIR',
    kind: kinds.path,
    fallback: null,
    shown: '`$XDG_CACHE_HOME/mlflow-sidecar` or `~/.cache/mlflow-sidecar`',
    meaning: 'Where models are kept.',
    why: 'the XDG base directory specification',
  }),
  cacheMaxBytes: option({
    name: 'SIDECAR_CACHE_MAX_BYTES',
    kind: kinds.bytes(1_048_576),
    fallback: 20 * 2 ** 30,
    shown: '20 GiB',
    meaning: 'How much the cache may hold. 15 % of its file system are left free besides.',
    why: 'some forty versions of a large model',
  }),
  config: option({
    name: 'SIDECAR_CONFIG',
    kind: kinds.readableFile,
    fallback: null,
    meaning: 'A YAML file with options by their keys.',
    notInFile: true,
  }),
  models: option({
    name: 'SIDECAR_MODELS',
    kind: configuredModels,
    fallback: [],
    meaning: 'The model URIs that a reload without any means, and that are pre-warmed.',
  }),
  prewarm: option({
    name: 'SIDECAR_PREWARM',
    kind: cron,
    fallback: null,
    meaning:
      'When all of `SIDECAR_MODELS` are reloaded; those that have a schedule of their own in the file go by that.',
  }),
  prewarmTimezone: option({
    name: 'SIDECAR_PREWARM_TIMEZONE',
    kind: timezone,
    fallback: 'UTC',
    meaning: 'The time zone of the schedules.',
    why: 'as in Airflow; it knows no hour that comes twice or never',
  }),
  warmupS: option({
    name: 'SIDECAR_WARMUP_S',
    kind: kinds.number(0, MAX_SECONDS, 's'),
    fallback: 0,
    meaning:
      'At the start all of `SIDECAR_MODELS` are loaded, and for so long `/readyz` waits until each has a version to give. 0: no warm-up.',
    why: 'a sidecar that waits for MLflow must not hold up its pod',
  }),
  reloadDeadlineS: option({
    name: 'SIDECAR_RELOAD_DEADLINE_S',
    kind: kinds.number(0.1, MAX_SECONDS, 's'),
    fallback: 60,
    meaning:
      'Within this a reload answers, from its first byte to its last, where the caller names no `deadline_s`.',
    why: 'what a task that reloads was planned to wait at most',
  }),
  reloadDeadlineMaxS: option({
    name: 'SIDECAR_RELOAD_DEADLINE_MAX_S',
    kind: kinds.number(0.1, MAX_SECONDS, 's'),
    fallback: 600,
    meaning: 'The longest `deadline_s` that a caller may ask for.',
    why: 'below the timeouts that usually stand around a task',
  }),
  refreshWaitS: option({
    name: 'SIDECAR_REFRESH_WAIT_S',
    kind: kinds.number(0, MAX_SECONDS, 's'),
    fallback: 2,
    meaning: 'Where a usable model is cached: how long MLflow may take to say which version is wanted.',
    why: 'forty times what a healthy MLflow takes',
  }),
  maxStaleS: option({
    name: 'SIDECAR_MAX_STALE_S',
    kind: kinds.number(0, TEN_YEARS_S, 's'),
    fallback: 604_800,
    meaning: 'A cached version that MLflow confirmed longer ago is not given.',
    why: 'a week: an MLflow that breaks on Friday evening is mended on Monday',
  }),
  breakerFailures: option({
    name: 'SIDECAR_BREAKER_FAILURES',
    kind: kinds.integer(1, 1_000),
    fallback: 5,
    meaning: 'After so many failed tries in a row MLflow, or an artifact server, is left alone.',
    why: 'two reloads with their retries',
  }),
  breakerResetS: option({
    name: 'SIDECAR_BREAKER_RESET_S',
    kind: kinds.number(0.1, MAX_SECONDS, 's'),
    fallback: 60,
    meaning: 'For how long it is left alone; the next request is then a trial that decides.',
    why: 'what a restart of MLflow takes',
  }),
  proxy: option({
    name: 'SIDECAR_PROXY',
    kind: kinds.oneOf(PROXY_MODES),
    fallback: null,
    shown: '`full` on loopback, `read-only` beyond',
    meaning:
      'What MLflow’s own clients may do through the sidecar, where `MLFLOW_TRACKING_URI` or `MLFLOW_REGISTRY_URI` names it: load models (`read-only`), everything (`full`), or nothing (`off`).',
  }),
  freshS: option({
    name: 'SIDECAR_FRESH_S',
    kind: kinds.number(0, MAX_SECONDS, 's'),
    fallback: 0,
    meaning:
      'For so long MLflow’s clients are given what MLflow said of models and runs without asking it again. A reload always asks.',
    why: 'a client reads its own writes',
  }),
  fileRoots: option({
    name: 'SIDECAR_FILE_ROOTS',
    kind: kinds.directories,
    fallback: [],
    meaning: 'Directories, separated by commas, under which `file:` artifacts may be read.',
    why: 'a registry must not name just any file of the machine',
  }),
  metricsAddr: option({
    name: 'SIDECAR_METRICS_ADDR',
    kind: kinds.listenAddress,
    fallback: null,
    meaning:
      'A second address, which serves `/metrics`, `/healthz` and `/readyz` alone, to everybody and without the token.',
  }),
  logLevel: option({
    name: 'SIDECAR_LOG_LEVEL',
    kind: kinds.oneOf(LOG_LEVELS),
    fallback: 'info',
    meaning: 'What is logged, as JSON lines on standard output.',
  }),
  ...MLFLOW_OPTIONS,
};

/** The table's rows, in the order in which users meet them. */
export const OPTION_SPECS: readonly AnyOption[] = Object.values(OPTIONS);
