import type { Express, RequestHandler } from 'express';
import { SidecarError } from '../domain/errors.ts';
import { formatModelUri } from '../domain/model-uri.ts';
import type { HttpDeps } from './deps.ts';
import { FaultyRequest } from './faults.ts';
import { deleteJob, getJob, getResult } from './jobs.ts';
import { sendProblem } from './problem.ts';
import { nameFaults, reloadAny, reloadModel } from './reload.ts';
import { JSON_TYPE, sendJson, sendText } from './send.ts';
import { sendJsonList } from './stream.ts';

/** What answers a kubelet, which comes with the pod's address and no token. */
export function addProbes(app: Express, deps: HttpDeps): void {
  get(app, '/healthz', (_req, res) => sendJson(res, 200, { status: 'ok' }));
  get(app, '/readyz', (req, res) => {
    const { ready, problem } = deps.isReady();
    if (ready && problem === null) return sendJson(res, 200, { status: 'ready' });
    // A Service must not cut off good models.
    if (ready) return sendJson(res, 200, { status: 'degraded', detail: problem });
    // 503, whatever the code says: the state passes, and a probe takes nothing else for "not yet".
    sendProblem(req, res, new SidecarError('internal', problem ?? 'The sidecar is not ready.'), 503);
  });
}

export function addApi(app: Express, deps: HttpDeps): void {
  app.route('/v1/reload').post(reloadAny(deps)).all(onlyAllows('POST'));
  app.route('/v1/models/:name/reload').post(reloadModel(deps)).all(onlyAllows('POST'));
  get(app, '/v1/models', (_req, res) =>
    sendJsonList(res, 'models', deps.catalog.models(res.locals.call.caller)),
  );
  get(app, '/v1/models/:name', (req, res) => {
    const { name } = req.params;
    const model = deps.catalog.model(res.locals.call.caller, name);
    if (model !== null) return sendJson(res, 200, model);
    const faults = nameFaults(name);
    if (faults.length > 0) throw new FaultyRequest(faults);
    throw new SidecarError('not_found', `Nothing of a model ${JSON.stringify(name)} is cached.`, {
      hint: 'GET /v1/models lists what is.',
    });
  });
  addJobs(app, deps);
  addStatus(app, deps);
  addMetrics(app, deps);
  // Made when somebody first asks for it: it takes a quarter of the start's time, and most never do.
  let openApi: Promise<string> | null = null;
  get(app, '/openapi.json', async (_req, res) => {
    openApi ??= import('./openapi.ts').then(({ createOpenApi }) => JSON.stringify(createOpenApi(deps)));
    sendText(res, 200, await openApi, JSON_TYPE);
  });
}

export function addMetrics(app: Express, { metrics }: Pick<HttpDeps, 'metrics'>): void {
  get(app, '/metrics', async (_req, res) => {
    const { contentType, text } = await metrics();
    sendText(res, 200, text, contentType);
  });
}

function addJobs(app: Express, deps: HttpDeps): void {
  app.route('/v1/jobs/:id').get(getJob(deps)).delete(deleteJob(deps)).all(onlyAllows('GET, HEAD, DELETE'));
  app.route('/v1/jobs/:id/result').get(getResult(deps)).all(onlyAllows('GET, HEAD'));
}

function addStatus(app: Express, { catalog, clock, prewarm, settings, version }: HttpDeps): void {
  const startedAt = clock.monotonic();
  const models = settings.models.map(formatModelUri);
  get(app, '/v1/status', (_req, res) => {
    const uptime = Math.round(clock.monotonic() - startedAt) / 1000;
    const mlflow = catalog.registry();
    const breakers = catalog.breakers();
    const breaker = breakers.find(({ name }) => name === 'registry')?.state ?? 'closed';
    const cache = catalog.cache();
    const prewarmed = prewarm();
    sendJson(res, 200, {
      version,
      uptime_s: uptime,
      mlflow,
      breaker,
      breakers,
      cache,
      models,
      prewarm: prewarmed,
    });
  });
}

function get(app: Express, path: string, handler: RequestHandler<{ name: string }>): void {
  app.route(path).get(handler).all(onlyAllows('GET, HEAD'));
}

function onlyAllows(methods: string): RequestHandler {
  return (req, res) => {
    res.set('Allow', methods);
    throw new SidecarError('method_not_allowed', `${req.method} is not allowed here.`, {
      hint: `Use ${methods}.`,
    });
  };
}

export const noRoute: RequestHandler = req => {
  throw new SidecarError('not_found', `There is no ${req.path.slice(0, 200)} here.`, {
    hint: 'GET /openapi.json lists what there is.',
  });
};
