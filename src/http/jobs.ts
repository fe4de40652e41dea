import type { Request, RequestHandler, Response } from 'express';
import { z } from 'zod';
import { SidecarError, toSidecarError } from '../domain/errors.ts';
import { warningOf } from '../domain/outcome.ts';
import type { Job, JobEnd, JobRequest } from '../jobs/api.ts';
import { type Answer, answerOfList, answerOfOne, sendAnswer } from './answer.ts';
import type { HttpDeps } from './deps.ts';
import { parseFields, queryOf } from './fields.ts';
import { sendProblem } from './problem.ts';
import { errorLine, oneLine, reportOf } from './report.ts';
import { sendJson, sendText, wantsText } from './send.ts';

/** Below what stands around a task and its client, such as the idle time of a load balancer that is set to 5 min. */
const LONGEST_WAIT_S = 240;

const words = `must be a number of seconds, from 0 to ${LONGEST_WAIT_S}`;

/** What `GET /v1/jobs/{id}` takes. */
export const jobSchema = z.strictObject({
  wait_s: z
    .number(words)
    .min(0, words)
    .max(LONGEST_WAIT_S, words)
    .default(0)
    .describe('seconds to wait for the end'),
});

const NO_BODY = { kind: 'form', texts: new Map() } as const;

/** Takes an asynchronous reload in, and answers 202. */
export async function beginJob(
  { jobs }: HttpDeps,
  req: Request<object>,
  res: Response,
  request: JobRequest,
): Promise<void> {
  const job = await jobs.begin(request);
  res.set('Location', statusUrl(job.id));
  if (prefersAsync(req)) res.set('Preference-Applied', 'respond-async');
  sendJob(req, res, 202, job);
}

/** RFC 7240; beside the fields, the caller's third way to ask for an asynchronous answer. */
export function prefersAsync(req: Request<object>): boolean {
  return (req.get('prefer') ?? '').split(/[,;]/).some(part => part.trim().toLowerCase() === 'respond-async');
}

/** `GET /v1/jobs/{id}` */
export function getJob({ jobs }: HttpDeps): RequestHandler<{ id: string }> {
  return async (req, res) => {
    const fields = parseFields({ schema: jobSchema, exclusive: [] }, { body: NO_BODY, query: queryOf(req) });
    const gone = new AbortController();
    res.once('close', () => gone.abort());
    const job = await jobs.wait(req.params.id, fields.wait_s * 1_000, gone.signal);
    if (job === null) throw unknown(req.params.id);
    sendJob(req, res, 200, job);
  };
}

/** `GET /v1/jobs/{id}/result`: a sensor takes 404 for "wait", and nothing else. */
export function getResult({ jobs }: HttpDeps): RequestHandler<{ id: string }> {
  return async (req, res) => {
    const { id } = req.params;
    try {
      const job = await jobs.find(id);
      if (job === null) sendUnknown(req, res, unknown(id));
      else if (job.end === null) sendWait(req, res, `The job ${id} is still running.`);
      else sendAnswer(req, res, answerOf(job, job.end), 'warn');
    } catch (error) {
      const { code, message } = toSidecarError(error);
      if (code !== 'overloaded') throw error;
      sendWait(req, res, message);
    }
  };
}

/** Not thrown: it is no refusal that anybody should hear of. */
function sendWait(req: Request<{ id: string }>, res: Response, message: string): void {
  sendProblem(req, res, new SidecarError('not_found', message, { hint: 'Ask again.' }));
}

/** `DELETE /v1/jobs/{id}` */
export function deleteJob({ jobs }: HttpDeps): RequestHandler<{ id: string }> {
  return async (req, res) => {
    if (!(await jobs.remove(req.params.id))) throw unknown(req.params.id);
    res.status(204).end();
  };
}

function sendJob(req: Request<object>, res: Response, status: number, job: Job): void {
  const answer = job.end === null ? null : answerOf(job, job.end);
  const body = {
    job_id: job.id,
    done: answer !== null,
    status: answer?.worst.status ?? 'pending',
    status_url: statusUrl(job.id),
    result_url: `${statusUrl(job.id)}/result`,
    outcome: answer?.body ?? null,
  };
  const waiting = `⏳ Reloading in the background: ${body.status_url}\n`;
  if (wantsText(req)) sendText(res, status, answer === null ? waiting : reportOf(answer.all));
  else sendJson(res, status, body);
}

function answerOf({ isList }: Job, { outcomes, durationS }: JobEnd): Answer {
  return isList ? answerOfList(outcomes, durationS) : answerOfOne(outcomes[0]);
}

/** Fit for an operator's `endpoint`, whatever the address. */
function statusUrl(id: string): string {
  return `/v1/jobs/${id}`;
}

function unknown(id: string): SidecarError {
  return new SidecarError('job_unknown', `There is no job ${JSON.stringify(id.slice(0, 100))}.`, {
    hint: 'The ends of 2,000 models are kept, for a day: reload again.',
  });
}

/** As an outcome, so that whoever waits for one ends. */
function sendUnknown(req: Request<object>, res: Response, error: SidecarError): void {
  const { code, message, hint } = error;
  const outcome = {
    status: 'failed',
    version: null,
    path: null,
    warning: warningOf(error),
    request_id: res.locals.call.caller.requestId,
  };
  if (wantsText(req)) sendText(res, 200, `${errorLine(code, message)}\n   ${oneLine(hint ?? '')}\n`);
  else sendJson(res, 200, outcome);
}
