import type { Caller } from '../domain/caller.ts';
import type { Phases } from '../domain/events.ts';

export type Level = 'debug' | 'info' | 'warn' | 'error';

/** One line of the log, before the logger adds its own fields. */
export interface Line {
  readonly level: Level;
  readonly msg: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

/** Many reasons begin with the URI that the sentence has named already. */
export function because(reason: string, uri: string): string {
  return `: ${reason.startsWith(`${uri}: `) ? reason.slice(uri.length + 2) : reason}`;
}

export function callerFields({ requestId, airflow, jobId }: Caller): Line['fields'] {
  return { request_id: requestId, ...airflow, ...(jobId === undefined ? {} : { job_id: jobId }) };
}

export function durations(phases: Phases): Readonly<Record<string, number>> {
  const rounded = Object.entries(phases).map(([phase, ms]: [string, number]) => [phase, Math.round(ms)]);
  return Object.fromEntries(rounded);
}
