import { randomUUID } from 'node:crypto';
import type { Request, RequestHandler } from 'express';
import type { Caller } from '../domain/caller.ts';
import { SidecarError } from '../domain/errors.ts';
import type { HttpDeps } from './deps.ts';
import { FaultyRequest } from './faults.ts';
import { isMlflows } from './mlflow/target.ts';

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
/** As MLFLOW_WORKSPACE. */
const VALID_WORKSPACE = /^[a-z0-9][-a-z0-9]{0,61}[a-z0-9]$/;
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
    const call: Call = {
      caller: { requestId, airflow: airflowOf(req), authorization },
      startedAt: clock.monotonic(),
    };
    res.locals.call = call;
    res.setHeader('X-Request-Id', requestId);
    res.setHeader('Cache-Control', 'no-store');
    res.setHeader('X-Content-Type-Options', 'nosniff');
    // What a line break within the target leaves of it: the rest of the path would stand where headers are.
    if (req.httpVersion === '0.9')
      throw new SidecarError('invalid_request', 'The request line names no HTTP version.');
    // Of two, whoever stands in front may have looked at the other.
    if (hostsOf(req) > 1)
      throw new SidecarError('invalid_request', 'The request has more than one Host header.');
    const workspace = settings.proxy === 'off' ? null : workspaceOf(req);
    if (workspace !== null) res.locals.call = { ...call, caller: { ...call.caller, workspace } };
    next();
  };
}

/** The caller's own id if it is fit for a header and a log line, else a fresh one. */
export function requestIdOf(given: string | undefined): string {
  return given !== undefined && VALID_REQUEST_ID.test(given) ? given : randomUUID();
}

function hostsOf({ rawHeaders }: Request): number {
  return rawHeaders.filter((name, at) => at % 2 === 0 && name.length === 4 && /^host$/i.test(name)).length;
}

/** The one that a client of MLflow's asks in; it is nothing to the sidecar's own API. */
function workspaceOf(req: Request): string | null {
  const workspace = req.get('x-mlflow-workspace');
  if (workspace === undefined || !isMlflows(req.url.split('?', 1)[0] ?? '')) return null;
  if (VALID_WORKSPACE.test(workspace)) return workspace;
  const message = 'is no name of a workspace: 2 to 63 of a–z, 0–9 and inner "-"';
  throw new FaultyRequest([{ field: 'X-MLFLOW-WORKSPACE', message }]);
}

function airflowOf(req: Request): Record<string, string> {
  const fields: Record<string, string> = {};
  for (const [header, field] of Object.entries(AIRFLOW_FIELDS)) {
    const value = req.headers[header];
    if (typeof value === 'string' && value !== '')
      fields[field] = value.replace(/\p{Cc}/gu, '').slice(0, MAX_AIRFLOW_LENGTH);
  }
  return fields;
}
