import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { keyOf } from '../../src/config/spec.ts';
import { OPTION_SPECS } from '../../src/config/table.ts';
import { ERROR_CODES } from '../../src/domain/errors.ts';
import { ROOT } from './markdown.ts';
import { SERIES } from './promql.ts';
import { FIELDS } from './tables.ts';

const read = (path: string) => readFileSync(join(ROOT, path), 'utf8');

/** The `event` of log lines: what can be emitted, and nothing else. */
const EVENTS = [...read('src/domain/events.ts').matchAll(/readonly type: '(\w+)'/g)].map(([, type]) => type);
/** Other fields of log lines. */
const OF_THE_LOG = ['duration_ms', 'dag_id', 'dag_run_id', 'task_id', 'try_number', 'map_index'];
const OF_THE_HELPER = ['mlflow_sidecar', 'model_path'];
const OF_MLFLOW = ['load_model'];
const OF_AIRFLOW = ['execution_timeout', 'executor_config', 'pod_override', 'get_airflow_context_vars'];
const OF_EXAMPLES = ['ml_model_training'];
const OF_NGINX = ['proxy_cache', 'proxy_cache_use_stale'];

/** Every word with underscores that may stand in a text. */
export const WORDS: ReadonlySet<string | undefined | null> = new Set([
  ...EVENTS,
  ...ERROR_CODES,
  ...OPTION_SPECS.map(keyOf),
  ...FIELDS,
  ...SERIES.keys(),
  ...[...SERIES.values()].flat(),
  ...OF_THE_LOG,
  ...OF_THE_HELPER,
  ...OF_MLFLOW,
  ...OF_AIRFLOW,
  ...OF_EXAMPLES,
  ...OF_NGINX,
]);
