/** Why a model is loaded before anybody asks for it: its schedule, or the start. */
export const PREWARM_REASONS = ['schedule', 'warmup'] as const;
export type PrewarmReason = (typeof PREWARM_REASONS)[number];

/** Who asks. */
export interface Caller {
  readonly requestId: string;
  /** Airflow's correlation, by log field (`dag_id`, `dag_run_id`, `task_id`, `try_number`, `map_index`). */
  readonly airflow: Readonly<Record<string, string>>;
  /** The caller's own `Authorization` for MLflow; null where the sidecar asks with its own credential. */
  readonly authorization: string | null;
  /** MLflow's workspace that the caller names; without one it is the configured one. */
  readonly workspace?: string;
  /** Of the asynchronous reload that it is. */
  readonly jobId?: string;
  /** Where it is the sidecar itself, before anybody asks. */
  readonly prewarm?: PrewarmReason;
}
