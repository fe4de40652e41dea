import type { Request, RequestHandler, Response } from 'express';
import { SidecarError } from '../domain/errors.ts';
import { matchesGlob } from '../domain/glob.ts';
import { formatModelUri, type ModelUri, nameFault, refKey } from '../domain/model-uri.ts';
import { TOO_LATE, within } from '../policy/abort.ts';
import { sendList, sendOutcome } from './answer.ts';
import { type Body, readBody, textsOf } from './body.ts';
import type { HttpDeps } from './deps.ts';
import { type Fault, FaultyRequest } from './faults.ts';
import { type Given, parseFields } from './fields.ts';
import { modelReloadSchema, reloadSchema, uriOf } from './reload-schema.ts';

/** Of http/server.ts, in seconds. */
const BODY_LIMIT_S = 30;

/** How a call wants its models reloaded, whichever way it named them. */
interface Wishes {
  readonly deadline_s: number;
  readonly refresh_wait_s: number;
  readonly max_stale_s: number;
  readonly force: boolean;
  readonly mode: 'sync' | 'async';
  readonly async: boolean;
  readonly on_failure: 'warn' | 'fail';
}

/** `POST /v1/reload` */
export function reloadAny(deps: HttpDeps): RequestHandler {
  const rules = { schema: reloadSchema(deps.settings), exclusive: ['model_uri', 'model_uris'] };
  return async (req, res) => {
    const fields = parseFields(rules, await given(req, res));
    if (fields.model_uri) return answerOne(deps, req, res, fields, fields.model_uri);
    await answerList(
      deps,
      req,
      res,
      fields,
      fields.model_uris ?? configured(deps.settings.models, 'model_uri'),
    );
  };
}

/** `POST /v1/models/{name}/reload` */
export function reloadModel(deps: HttpDeps): RequestHandler<{ name: string }> {
  const rules = { schema: modelReloadSchema(deps.settings), exclusive: ['stage', 'alias', 'version'] };
  return async (req, res) => {
    const { name } = req.params;
    const fields = parseFields(rules, await given(req, res), nameFaults(name));
    for (const kind of ['stage', 'alias', 'version'] as const) {
      const ref = fields[kind];
      if (ref !== undefined) return answerOne(deps, req, res, fields, uriOf(name, kind, ref));
    }
    const ofName = deps.settings.models.filter(uri => refKey(uri).name === name);
    await answerList(deps, req, res, fields, configured(ofName, 'stage, alias, version'));
  };
}

export function nameFaults(name: string): Fault[] {
  const fault = nameFault(name);
  return fault === null ? [] : [{ field: 'name', message: `${JSON.stringify(name.slice(0, 100))} ${fault}` }];
}

async function given(req: Request<object>, res: Response): Promise<Given> {
  const at = req.url.indexOf('?');
  const query = textsOf(at < 0 ? '' : req.url.slice(at));
  return { body: await bodyInTime(req, res, Number(query.get('deadline_s')?.[0])), query };
}

/** A deadline in the query is known before the body is; the server's limit for the whole request holds for any. */
async function bodyInTime(req: Request<object>, res: Response, deadlineS: number): Promise<Body> {
  const reading = readBody(req, res);
  if (!(deadlineS > 0 && deadlineS < BODY_LIMIT_S)) return await reading;
  const body = await within(deadlineS * 1_000, reading);
  if (body !== TOO_LATE) return body;
  throw new FaultyRequest([{ field: 'body', message: 'did not arrive within deadline_s' }]);
}

function configured(uris: readonly ModelUri[], field: string): readonly ModelUri[] {
  if (uris.length > 0) return uris;
  const fault = { field, message: 'is not given, and no such model is configured' };
  throw new FaultyRequest([fault], `Give ${field.replaceAll(', ', ' or ')}, or set SIDECAR_MODELS.`);
}

async function answerOne(
  deps: HttpDeps,
  req: Request<object>,
  res: Response,
  wishes: Wishes,
  uri: ModelUri,
): Promise<void> {
  check(deps, req, wishes, [uri]);
  sendOutcome(req, res, await deps.reloader.reload(requestFor(res, wishes, uri)), wishes.on_failure);
}

async function answerList(
  deps: HttpDeps,
  req: Request<object>,
  res: Response,
  wishes: Wishes,
  uris: readonly ModelUri[],
): Promise<void> {
  check(deps, req, wishes, uris);
  const once = new Map(uris.map(uri => [formatModelUri(uri), uri]));
  const outcomes = await Promise.all(
    [...once.values()].map(uri => deps.reloader.reload(requestFor(res, wishes, uri))),
  );
  const durationS = (deps.clock.monotonic() - res.locals.call.startedAt) / 1000;
  sendList(req, res, outcomes, durationS, wishes.on_failure);
}

function check(deps: HttpDeps, req: Request<object>, wishes: Wishes, uris: readonly ModelUri[]): void {
  if (wishes.async || wishes.mode === 'async' || prefersAsync(req)) {
    throw new SidecarError('not_implemented', 'Asynchronous mode is not implemented.', {
      hint: 'Leave out mode, async and "Prefer: respond-async", and set deadline_s to what the caller can wait.',
    });
  }
  const { allow } = deps.settings;
  const refused = uris.map(formatModelUri).filter(text => !allow.some(pattern => matchesGlob(pattern, text)));
  if (allow.length === 0 || refused.length === 0) return;
  throw new SidecarError('not_allowed', `Not allowed here: ${refused.join(', ')}.`, {
    hint: 'SIDECAR_ALLOW lists the patterns of model URIs that may be asked for.',
  });
}

/** RFC 7240; the caller's third way to ask for an asynchronous answer. */
function prefersAsync(req: Request<object>): boolean {
  return (req.get('prefer') ?? '').split(/[,;]/).some(part => part.trim().toLowerCase() === 'respond-async');
}

function requestFor(res: Response, wishes: Wishes, uri: ModelUri) {
  const { caller, startedAt } = res.locals.call;
  return {
    uri,
    caller,
    startedAt,
    deadlineAt: startedAt + wishes.deadline_s * 1000,
    refreshWaitMs: Math.min(wishes.refresh_wait_s, wishes.deadline_s) * 1000,
    maxStaleMs: wishes.max_stale_s * 1000,
    force: wishes.force,
  };
}
