import type { Request, Response } from 'express';
import { type Outcome, retryAfterOf, worstOf } from '../domain/outcome.ts';
import { problemOf, setRetryAfter, statusOfOutcome } from './problem.ts';
import { errorLine, reportOf } from './report.ts';
import { sendJson, sendText, wantsText } from './send.ts';

/** What a reload came to. */
export interface Answer {
  /** Speaks for all. */
  readonly worst: Outcome;
  readonly all: readonly Outcome[];
  /** In JSON: the outcome, or the list of them. */
  readonly body: object;
}

export function answerOfOne(outcome: Outcome): Answer {
  return { worst: outcome, all: [outcome], body: outcome };
}

/** For several models; the first of the worst outcomes speaks for all. */
export function answerOfList(outcomes: readonly [Outcome, ...Outcome[]], durationS: number): Answer {
  const worst = worstOf(outcomes);
  const body = { status: worst.status, models: outcomes, duration_s: Math.round(durationS * 1000) / 1000 };
  return { worst, all: outcomes, body };
}

export function sendAnswer(
  req: Request<object>,
  res: Response,
  { worst, all, body }: Answer,
  onFailure: 'warn' | 'fail',
): void {
  const status = statusOfOutcome(worst, onFailure);
  setRetryAfter(res, status, retryAfterOf(worst));
  const isError = status >= 400;
  const { code, message, hint } = worst.warning ?? {
    code: 'internal',
    message: 'No reason is known.',
    hint: null,
  };
  if (wantsText(req)) {
    sendText(res, status, `${isError ? `${errorLine(code, message)}\n` : ''}${reportOf(all)}`);
  } else if (isError) {
    // RFC 9457 has a numeric `status`; here the outcome's own `status` stands in its place, since a caller reads
    // the same members with `fail` as with `warn`, and the number is in the status line anyway.
    sendJson(res, status, { ...problemOf(status, code, message, hint), ...body }, 'application/problem+json');
  } else {
    sendJson(res, status, body);
  }
}
