import type { Outcome, Warning } from '../domain/outcome.ts';

/** What is known of a model that is pre-warmed. Times in seconds since 1970. */
export interface PrewarmState {
  readonly model_uri: string;
  /** As cron has it; null where it is only loaded at the start. */
  readonly schedule: string | null;
  readonly timezone: string | null;
  readonly next_run_at: number | null;
  readonly running: boolean;
  readonly last_run: {
    readonly at: number;
    readonly duration_s: number;
    readonly status: Outcome['status'];
    readonly version: string | null;
    /** Why it is not as wanted. */
    readonly code: Warning['code'] | null;
  } | null;
  /** Times of the schedule that were left out, since the run before was not over. */
  readonly skipped: number;
}
