import type { Request, RequestHandler, Response } from 'express';
import { SidecarError } from '../domain/errors.ts';
import { matchesGlob } from '../domain/glob.ts';
import { formatModelUri, type ModelUri, nameFault, refKey } from '../domain/model-uri.ts';
import { TOO_LATE, within } from '../policy/abort.ts';
import { answerOfList, answerOfOne, sendAnswer } from './answer.ts';
import { BODY_LIMIT_S, type Body, readBody } from './body.ts';
import type { HttpDeps } from './deps.ts';
import { type Fault, FaultyRequest } from './faults.ts';
import { type Given, parseFields, queryOf } from './fields.ts';
import { beginJob, prefersAsync } from './jobs.ts';
import { modelReloadSchema, reloadSchema, uriOf } from './reload-schema.ts';

/** How a call wants its models reloaded, whichever way it named them. */
interface Wishes {
  readonly deadline_s?: number | undefined;
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
  const query = queryOf(req);
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
  checkAllowed(deps, [uri]);
  const request = requestFor(deps, req, res, wishes);
  if (request.isAsync) return await beginJob(deps, req, res, { ...request, uris: [uri], isList: false });
  sendAnswer(req, res, answerOfOne(await deps.reloader.reload({ ...request, uri })), wishes.on_failure);
}

async function answerList(
  deps: HttpDeps,
  req: Request<object>,
  res: Response,
  wishes: Wishes,
  uris: readonly ModelUri[],
): Promise<void> {
  checkAllowed(deps, uris);
  const [first, ...others] = new Map(uris.map(uri => [formatModelUri(uri), uri])).values();
  if (first === undefined) throw new Error('a list of models is never empty');
  const request = requestFor(deps, req, res, wishes);
  if (request.isAsync)
    return await beginJob(deps, req, res, { ...request, uris: [first, ...others], isList: true });
  const call = (uri: ModelUri) => deps.reloader.reload({ ...request, uri });
  const [outcome, ...rest] = await Promise.all([call(first), ...others.map(call)]);
  const durationS = (deps.clock.monotonic() - request.startedAt) / 1000;
  sendAnswer(req, res, answerOfList([outcome, ...rest], durationS), wishes.on_failure);
}

function checkAllowed({ settings: { allow } }: HttpDeps, uris: readonly ModelUri[]): void {
  const refused = uris.map(formatModelUri).filter(text => !allow.some(pattern => matchesGlob(pattern, text)));
  if (allow.length === 0 || refused.length === 0) return;
  throw new SidecarError('not_allowed', `Not allowed here: ${refused.join(', ')}.`, {
    hint: 'SIDECAR_ALLOW lists the patterns of model URIs that may be asked for.',
  });
}

/** Whoever does not wait for the end has the longest deadline, unless told. */
function requestFor({ settings }: HttpDeps, req: Request<object>, res: Response, wishes: Wishes) {
  const { caller, startedAt } = res.locals.call;
  const isAsync = wishes.async || wishes.mode === 'async' || prefersAsync(req);
  const deadlineS = wishes.deadline_s ?? (isAsync ? settings.reloadDeadlineMaxS : settings.reloadDeadlineS);
  return {
    isAsync,
    caller,
    startedAt,
    deadlineAt: startedAt + deadlineS * 1000,
    refreshWaitMs: Math.min(wishes.refresh_wait_s, deadlineS) * 1000,
    maxStaleMs: wishes.max_stale_s * 1000,
    force: wishes.force,
  };
}
