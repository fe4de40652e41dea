import { DatabaseSync } from 'node:sqlite';
import { z } from 'zod';

const RunSchema = z.object({ state: z.string() });
const TaskSchema = z.object({ task_id: z.string(), state: z.string() });
const ReturnedSchema = z.object({ task_id: z.string(), value: z.string() });

const TASKS = 'select task_id, state from task_instance order by map_index';
/** The value is text in Airflow 3, and the same as a blob in Airflow 2. */
const RETURNED = `select task_id, cast(value as text) as value from xcom where key = 'return_value' order by map_index`;

export interface Recorded {
  /** `success` or `failed`. */
  readonly state: string;
  /** The states of each task's instances, by map index. */
  readonly states: Readonly<Record<string, readonly string[]>>;
  /** What they returned. */
  readonly returned: Readonly<Record<string, readonly unknown[]>>;
}

/** What Airflow's database says of the one run that it knows. */
export function recorded(file: string, log: string): Recorded {
  const db = new DatabaseSync(file, { readOnly: true });
  try {
    const [run] = z.array(RunSchema).parse(db.prepare('select state from dag_run').all());
    if (run === undefined) throw new Error(`There was no run:\n${log.slice(-8_000)}`);
    const tasks = z.array(TaskSchema).parse(db.prepare(TASKS).all());
    const returned = z.array(ReturnedSchema).parse(db.prepare(RETURNED).all());
    return {
      state: run.state,
      states: byTask(tasks, ({ state }) => state),
      returned: byTask(returned, ({ value }): unknown => JSON.parse(value)),
    };
  } finally {
    db.close();
  }
}

function byTask<Row extends { readonly task_id: string }, Value>(
  rows: readonly Row[],
  read: (row: Row) => Value,
): Record<string, Value[]> {
  const values: Record<string, Value[]> = {};
  for (const row of rows) values[row.task_id] = [...(values[row.task_id] ?? []), read(row)];
  return values;
}
