import { STATUS_CODES } from 'node:http';
import type { ErrorRequestHandler, Request, Response } from 'express';
import { type ErrorCode, HTTP_STATUS_BY_CODE, SidecarError, toSidecarError } from '../domain/errors.ts';
import type { Outcome } from '../domain/outcome.ts';
import type { HttpDeps } from './deps.ts';
import { FaultyRequest } from './faults.ts';
import { sendMlflowError } from './mlflow/errors.ts';
import { isMlflows } from './mlflow/target.ts';
import { errorLine, oneLine } from './report.ts';
import { sendJson, sendText, wantsText } from './send.ts';

/** Where the upstream named no time: soon enough for a task's retry, and no burden. */
const RETRY_AFTER_S = 5;

/** RFC 9457 without its `status`. */
interface Problem {
  readonly type: 'about:blank';
  readonly title: string;
  readonly detail: string;
  readonly code: ErrorCode;
  readonly hint: string | null;
}

export function problemOf(status: number, code: ErrorCode, detail: string, hint: string | null): Problem {
  return { type: 'about:blank', title: STATUS_CODES[status] ?? 'Error', detail, code, hint };
}

/** The HTTP status of an answer that this outcome decides. */
export function statusOfOutcome(outcome: Outcome, onFailure: 'warn' | 'fail'): number {
  if (onFailure === 'warn') return 200;
  if (outcome.status === 'missing') return HTTP_STATUS_BY_CODE.model_not_found;
  return outcome.status === 'failed' ? HTTP_STATUS_BY_CODE[outcome.warning?.code ?? 'internal'] : 200;
}

/** A client may be told when to come back: a 503 without it is retried at once, by some, for ever. */
export function setRetryAfter(res: Response, status: number, seconds: number = RETRY_AFTER_S): void {
  if (status === 503) res.set('Retry-After', String(Math.max(1, Math.ceil(seconds))));
}

/** Answers with an error alone, where there is no outcome. */
export function sendProblem(
  req: Request,
  res: Response,
  error: SidecarError,
  status: number = HTTP_STATUS_BY_CODE[error.code],
): void {
  setRetryAfter(res, status, error.retryAfterS ?? undefined);
  if (wantsText(req)) {
    const hint = error.hint === null ? '' : `   ${oneLine(error.hint)}\n`;
    sendText(res, status, `${errorLine(error.code, error.message)}\n${hint}`);
  } else {
    const faults = error instanceof FaultyRequest ? { faults: error.faults } : {};
    const problem = problemOf(status, error.code, error.message, error.hint);
    sendJson(res, status, { ...problem, status, ...faults }, 'application/problem+json');
  }
}

/** Goes last: whatever was thrown becomes an answer, and an event that says so. */
export function refuse({ events, settings }: Pick<HttpDeps, 'events' | 'settings'>): ErrorRequestHandler {
  return (thrown: unknown, req, res, _next) => {
    const error = malformedPath(thrown) ?? toSidecarError(thrown);
    events.emit({
      type: 'request_refused',
      caller: res.locals.call.caller,
      method: req.method,
      path: req.path,
      error,
    });
    // Half an answer cannot be taken back; cutting it short is the one way left to say that it is not whole.
    const told = error.code === 'internal' ? withoutInnards(error) : error;
    if (res.headersSent) res.destroy();
    else if (settings.proxy !== 'off' && isMlflows(req.path)) sendMlflowError(res, told);
    else sendProblem(req, res, told);
  };
}

/** The router throws it, with a status, for a path parameter that cannot be decoded. */
function malformedPath(thrown: unknown): SidecarError | null {
  if (!(thrown instanceof URIError && 'status' in thrown)) return null;
  return new FaultyRequest([{ field: 'path', message: 'holds malformed percent-encoding' }]);
}

function withoutInnards(error: SidecarError): SidecarError {
  return new SidecarError('internal', 'The sidecar failed in a way that nobody foresaw.', {
    hint: 'Its log tells more, under the X-Request-Id of this answer.',
    cause: error,
  });
}
