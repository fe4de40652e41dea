import { randomUUID } from 'node:crypto';
import type { Request, RequestHandler } from 'express';
import type { Caller } from '../domain/caller.ts';
import { SidecarError } from '../domain/errors.ts';
import type { HttpDeps } from './deps.ts';

/** What is known of a request from its first moment. */
interface Call {
  readonly caller: Caller;
  /** When it arrived, on the monotonic clock: reading its body is part of its deadline. */
  readonly startedAt: number;
}

declare module 'express-serve-static-core' {
  interface Locals {
    call: Call;
  }
}

const VALID_REQUEST_ID = /^[\w.:-]{1,128}$/;
const MAX_AIRFLOW_LENGTH = 250;
const AIRFLOW_FIELDS = {
  'x-airflow-dag-id': 'dag_id',
  'x-airflow-run-id': 'dag_run_id',
  'x-airflow-task-id': 'task_id',
  'x-airflow-try-number': 'try_number',
  'x-airflow-map-index': 'map_index',
} as const;

/** Goes first: every answer, a refusal too, carries the request's id and may not be kept by a cache. */
export function beginCall({ clock, settings }: Pick<HttpDeps, 'clock' | 'settings'>): RequestHandler {
  return (req, res, next) => {
    const requestId = requestIdOf(req.get('x-request-id'));
    // Where a token is set, this header holds it, and it must not reach MLflow.
    const authorization = settings.token === null ? (req.get('authorization') ?? null) : null;
    const caller: Caller = { requestId, airflow: airflowOf(req), authorization };
    res.locals.call = { caller, startedAt: clock.monotonic() };
    res.set({ 'X-Request-Id': requestId, 'Cache-Control': 'no-store', 'X-Content-Type-Options': 'nosniff' });
    // What a line break within the target leaves of it: the rest of the path would stand where headers are.
    if (req.httpVersion === '0.9')
      throw new SidecarError('invalid_request', 'The request line names no HTTP version.');
    next();
  };
}

/** The caller's own id if it is fit for a header and a log line, else a fresh one. */
export function requestIdOf(given: string | undefined): string {
  return given !== undefined && VALID_REQUEST_ID.test(given) ? given : randomUUID();
}

function airflowOf(req: Request): Record<string, string> {
  const fields: Record<string, string> = {};
  for (const [header, field] of Object.entries(AIRFLOW_FIELDS)) {
    const value = req.get(header);
    if (value) fields[field] = value.replace(/\p{Cc}/gu, '').slice(0, MAX_AIRFLOW_LENGTH);
  }
  return fields;
}
