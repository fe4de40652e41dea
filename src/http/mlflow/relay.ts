import type { Request, Response } from 'express';
import { SidecarError } from '../../domain/errors.ts';
import { changedArtifact } from '../../proxy/effect.ts';
import type { RelayedAnswer } from '../../proxy/relay.ts';
import type { RelayRequest } from '../../proxy/relay-request.ts';
import type { HttpDeps } from '../deps.ts';
import type { Target } from './target.ts';

const OF_ARTIFACTS = '/api/2.0/mlflow-artifacts/';

/** Passes a request on as it is, to the same path of MLflow's own server. */
export async function relay(
  { proxy, settings }: HttpDeps,
  req: Request,
  res: Response,
  { server, path }: Extract<Target, { kind: 'other' }>,
  query: URLSearchParams,
): Promise<RelayedAnswer> {
  const { caller } = res.locals.call;
  const url = new URL(`${settings.upstreams[server]}${path}`);
  url.search = query.toString();
  const request: RelayRequest = {
    kind: path.startsWith(OF_ARTIFACTS) ? 'artifacts' : server,
    method: req.method,
    url,
    headers: req.headers,
    body: hasBody(req) ? req : null,
    authorization: caller.authorization,
    signal: untilClosed(res),
  };
  return await proxy.relay(request, caller, changedArtifact(path));
}

/** Aborts when the client has left. */
export function untilClosed(res: Response): AbortSignal {
  const controller = new AbortController();
  res.once('close', () => {
    // An error with its trace for each answer would cost more than the answer.
    if (!res.writableFinished) controller.abort(new SidecarError('internal', 'The client has left.'));
  });
  return controller.signal;
}

function hasBody({ headers }: Request): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;
}
