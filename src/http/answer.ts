import type { Request, Response } from 'express';
import { type Outcome, retryAfterOf, worstOf } from '../domain/outcome.ts';
import { problemOf, setRetryAfter, statusOfOutcome } from './problem.ts';
import { errorLine, reportOf } from './report.ts';
import { sendJson, sendText, wantsText } from './send.ts';

type OnFailure = 'warn' | 'fail';

export function sendOutcome(
  req: Request<object>,
  res: Response,
  outcome: Outcome,
  onFailure: OnFailure,
): void {
  sendOutcomes(req, res, { worst: outcome, all: [outcome], body: outcome }, onFailure);
}

/** Answers for several models; the first of the worst outcomes speaks for all. */
export function sendList(
  req: Request<object>,
  res: Response,
  outcomes: readonly Outcome[],
  durationS: number,
  onFailure: OnFailure,
): void {
  const [first, ...others] = outcomes;
  if (first === undefined) throw new Error('a list of outcomes is never empty');
  const worst = worstOf([first, ...others]);
  const body = { status: worst.status, models: outcomes, duration_s: Math.round(durationS * 1000) / 1000 };
  sendOutcomes(req, res, { worst, all: outcomes, body }, onFailure);
}

interface Answer {
  readonly worst: Outcome;
  readonly all: readonly Outcome[];
  readonly body: object;
}

function sendOutcomes(
  req: Request<object>,
  res: Response,
  { worst, all, body }: Answer,
  onFailure: OnFailure,
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
