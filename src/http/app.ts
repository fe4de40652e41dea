import express, { type Express } from 'express';
import { beginCall } from './call.ts';
import type { HttpDeps } from './deps.ts';
import { hostGuard, tokenGuard } from './guards.ts';
import { mlflowApi } from './mlflow/handler.ts';
import { refuseSpans } from './mlflow/spans.ts';
import { SPANS_PATH } from './mlflow/target.ts';
import { refuse } from './problem.ts';
import { addApi, addMetrics, addProbes, noRoute } from './routes.ts';

/** Metrics and health alone, for whoever scrapes and probes: without the token, by any host name. */
export function createMetricsApp(deps: HttpDeps): Express {
  const app = bareApp(deps);
  addProbes(app, deps);
  addMetrics(app, deps);
  app.use(noRoute, refuse(deps));
  return app;
}

/** The HTTP API. The guards stand before every route but the probes, so that a stranger learns not even what exists. */
export function createHttpApp(deps: HttpDeps): Express {
  const app = bareApp(deps);
  addProbes(app, deps);
  app.use(hostGuard(deps.settings.allowedHosts), tokenGuard(deps.settings.token));
  if (deps.settings.proxy !== 'off') app.use(mlflowApi(deps)).post(SPANS_PATH, refuseSpans);
  addApi(app, deps);
  app.use(noRoute, refuse(deps));
  return app;
}

function bareApp(deps: HttpDeps): Express {
  const app = express();
  app.disable('x-powered-by').disable('etag').disable('query parser').enable('case sensitive routing');
  app.use(beginCall(deps));
  return app;
}
