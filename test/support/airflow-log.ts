import { z } from 'zod';

/** What Airflow and the tasks logged as warnings. */
export function warnings(airflowLog: string): readonly string[] {
  return airflowLog.split('\n').filter(line => /\[warning *\]|\bWARNING -/.test(line));
}

const LineSchema = z.looseObject({
  event: z.string().optional(),
  model_uri: z.string().optional(),
  dag_id: z.string().optional(),
  dag_run_id: z.string().optional(),
  task_id: z.string().optional(),
  try_number: z.string().optional(),
  map_index: z.string().optional(),
});

/** The models that a task had the sidecar reload, by the sidecar's log: a line for each, with whose call it was. */
export function reloadsOf(taskId: string, sidecarLog: string): readonly z.infer<typeof LineSchema>[] {
  const lines = sidecarLog.trim().split('\n');
  return lines
    .map(line => LineSchema.parse(JSON.parse(line)))
    .filter(line => line.event === 'reload_finished' && line.task_id === taskId);
}
