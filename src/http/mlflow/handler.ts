import type { Request, RequestHandler, Response } from 'express';
import { SidecarError } from '../../domain/errors.ts';
import type { Answer } from '../../proxy/answer.ts';
import type { FileRequest, Opened } from '../../proxy/opened.ts';
import { type Found, type Read, readOf } from '../../proxy/reads.ts';
import { readBody } from '../body.ts';
import type { HttpDeps } from '../deps.ts';
import { FaultyRequest } from '../faults.ts';
import { sendText } from '../send.ts';
import { sendPieces } from '../stream.ts';
import { relay, untilClosed } from './relay.ts';
import { type Asked, Requests } from './requests.ts';
import { sendFile } from './send-file.ts';
import { artifactSegments } from './target.ts';

/** What a client may say of the part of a file that it wants, or of what it has. */
const FILE_HEADERS = ['range', 'if-range', 'if-none-match', 'if-modified-since'];

/** MLflow's API, for its own clients. Passes on what is none of it. */
export function mlflowApi(deps: HttpDeps): RequestHandler {
  const requests = new Requests();
  return async (req, res, next) => {
    const asked = requests.understand(req.method, req.url);
    if (asked === null) return next();
    await answer(deps, req, res, asked);
  };
}

async function answer(
  deps: HttpDeps,
  req: Request,
  res: Response,
  { target, query, read }: Asked,
): Promise<void> {
  const { proxy } = deps;
  const { caller } = res.locals.call;
  switch (target.kind) {
    case 'malformed':
      throw new FaultyRequest([{ field: 'path', message: 'holds a segment that is no name' }]);
    case 'presigned':
      throw new SidecarError('not_implemented', 'Addresses of artifacts past the sidecar are not given.', {
        hint: 'Download the artifacts through it.',
      });
    case 'foreign':
      throw notAllowed(req, 'It is not part of the API that the sidecar stands in for.');
    case 'plain':
      return await sendAnswer(req, res, await proxy.plain(target.path, caller));
    case 'read':
      return await sendAnswer(
        req,
        res,
        await proxy.read(read ?? (await posted(target.found, query, req, res)), caller, selfOf(req)),
      );
    case 'listing':
      return await sendAnswer(req, res, await proxy.list(directoryIn(query), caller));
    case 'file':
      return await sendOpened(req, res, await proxy.open(fileRequest(req, res, target.segments), caller));
    case 'other':
      if (deps.settings.proxy !== 'full')
        throw notAllowed(
          req,
          'SIDECAR_PROXY is read-only: models can be loaded, and nothing be changed.',
          'SIDECAR_PROXY=full lets everything of /api/ pass, with the caller’s own credential.',
        );
      return await sendPassed(req, res, await relay(deps, req, res, target, query));
  }
}

/** A read that is asked for by POST. */
async function posted(found: Found, query: URLSearchParams, req: Request, res: Response): Promise<Read> {
  const body = await readBody(req, res, true);
  if (body.kind === 'json') return readOf(found, query, Object.fromEntries(body.values));
  if (body.kind === 'form' && body.texts.size === 0) return readOf(found, query, {});
  throw new FaultyRequest([
    body.kind === 'faulty' ? body.fault : { field: 'body', message: 'is not a JSON object' },
  ]);
}

function directoryIn(query: URLSearchParams): readonly string[] {
  const [path = '', ...more] = query.getAll('path');
  const segments = more.length > 0 ? null : artifactSegments(path);
  if (segments !== null) return segments;
  throw new FaultyRequest([{ field: 'path', message: 'is no path of the artifact store' }]);
}

/** As the caller reached it: its Host was looked at before. */
function selfOf(req: Request): string {
  return `http://${req.headers.host}`;
}

function fileRequest(req: Request, res: Response, segments: readonly string[]): FileRequest {
  const headers: Record<string, string> = {};
  for (const name of FILE_HEADERS) {
    const value = req.get(name);
    if (value !== undefined) headers[name] = value;
  }
  return { segments, method: req.method === 'HEAD' ? 'HEAD' : 'GET', headers, signal: untilClosed(res) };
}

async function sendAnswer(
  req: Request,
  res: Response,
  { status, text, contentType, passing, ...age }: Answer,
): Promise<void> {
  setAge(res, age);
  if (passing === undefined) return sendText(res, status, text, contentType);
  const headers = { 'Content-Type': contentType };
  await sendPassed(req, res, { status, headers, ...passing });
}

function setAge(res: Response, { ageS, stale }: Pick<Answer, 'ageS' | 'stale'>): void {
  if (ageS !== null) res.setHeader('Age', String(ageS));
  if (stale !== null) res.setHeader('X-Sidecar-Stale', stale);
}

async function sendOpened(req: Request, res: Response, opened: Opened): Promise<void> {
  if (opened.kind === 'answer') return await sendAnswer(req, res, opened.answer);
  if (opened.kind === 'stored') {
    const { size, sha256, read, close } = opened;
    setAge(res, opened);
    try {
      return await sendFile(req, res, { size, etag: `"${sha256}"`, read });
    } finally {
      close();
    }
  }
  if (opened.kind === 'arriving') {
    const signal = untilClosed(res);
    return await sendFile(req, res, {
      size: opened.size,
      etag: null,
      read: (from, to) => opened.read(from, to, signal),
    });
  }
  await sendPassed(req, res, opened);
}

interface PassedOn {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[]>>;
  readonly length: number | null;
  readonly body: AsyncIterable<Uint8Array>;
  readonly close: () => void;
}

/** Whole, or cut: where the length is not known, the body's end is only sent once it has come. */
async function sendPassed(
  req: Request,
  res: Response,
  { status, headers, length, body, close }: PassedOn,
): Promise<void> {
  try {
    const hasBody = req.method !== 'HEAD' && status !== 204 && status !== 304;
    if (hasBody && length === null && req.httpVersion === '1.0') throw endless();
    res.statusCode = status;
    // As it came: express would add a charset.
    for (const [name, value] of Object.entries(headers)) res.setHeader(name, value);
    if (length !== null) res.set('Content-Length', String(length));
    if (!hasBody) return void res.end();
    res.flushHeaders();
    await sendPieces(res, body);
  } finally {
    close();
  }
}

/** Without chunks its end would be the connection's, however that came about. */
function endless(): SidecarError {
  const message =
    'MLflow does not say how long the answer is, and by HTTP/1.0 a cut could not be told from its end.';
  return new SidecarError('artifact_corrupt', message, {
    hint: 'Ask by HTTP/1.1; of nginx: proxy_http_version 1.1.',
    serverFault: false,
  });
}

function notAllowed(req: Request, why: string, hint?: string): SidecarError {
  const message = `${req.method} ${req.path.slice(0, 200)} does not pass. ${why}`;
  return new SidecarError('not_allowed', message, { hint });
}
