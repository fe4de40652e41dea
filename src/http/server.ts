import {
  createServer,
  type RequestListener,
  type Server,
  type ServerResponse,
  STATUS_CODES,
} from 'node:http';
import type { Duplex } from 'node:stream';
import type { ProxyMode } from '../config/options.ts';
import { errnoOf, HTTP_STATUS_BY_CODE } from '../domain/errors.ts';
import type { EventBus } from '../domain/events.ts';
import { requestIdOf } from './call.ts';
import { Leftovers } from './leftovers.ts';
import { OverloadGuard } from './overload.ts';
import { problemOf } from './problem.ts';

const LIMITS = {
  /** A client on the same machine sends its headers at once; one that does not holds a connection. */
  headersTimeout: 10_000,
  // It would end every long upload. Whoever reads a body has a limit of its own, and what nobody reads ends with its answer.
  requestTimeout: 0,
  /** How late the first may be noticed. */
  connectionsCheckingInterval: 1_000,
  /** Between two requests; an idle connection is one fewer for others. */
  keepAliveTimeout: 5_000,
  // The guard answers a missing Host, with a request id and a reason.
  requireHostHeader: false,
} as const;

/** For an answer to arrive before the connection is reset. */
const LINGER_MS = 1_000;

/** The server, not yet listening. */
export function createHttpServer(
  app: RequestListener,
  events: EventBus,
  { proxy }: { readonly proxy: ProxyMode },
): Server {
  const server = createServer(LIMITS, (req, res) => {
    req.url = originForm(req.url ?? '/');
    res.once('finish', () => leftovers.takeOff(req));
    if (guard.admits(req, res)) app(req, res);
  });
  const guard = new OverloadGuard(server, events, proxy);
  const leftovers = new Leftovers(server);
  // An unknown Expect is no reason for Node's bare 417: it is ignored.
  server.on('checkExpectation', (req, res: ServerResponse) => server.emit('request', req, res));
  server.on('clientError', refuseNonHttp);
  return server;
}

/**
 * The path and query of a request target: the host of `http://evil/v1/reload` means nothing here. An address that ends in a slash
 * and a path that begins with one make two.
 */
function originForm(target: string): string {
  const path = target.startsWith('/') ? target : target.replace(/^[a-z][a-z\d+.-]*:\/\/[^/?#]*/i, '');
  return `/${path.replace(/^\/+/, '')}`;
}

/** What Node could not read as a request never reaches the app. */
function refuseNonHttp(error: Error, socket: Duplex): void {
  if (!socket.writable) return void socket.destroy();
  const [code, detail] = REASONS[errnoOf(error)] ?? ['invalid_request', 'The request is not valid HTTP/1.1.'];
  const status = HTTP_STATUS_BY_CODE[code];
  const body = JSON.stringify({ ...problemOf(status, code, detail, null), status });
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
    'Content-Type: application/problem+json',
    `Content-Length: ${Buffer.byteLength(body)}`,
    `X-Request-Id: ${requestIdOf(undefined)}`,
    'Cache-Control: no-store',
    'Connection: close',
  ];
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`);
  // Not at once: with bytes still unread that would be a reset, which can overtake the answer.
  setTimeout(() => socket.destroy(), LINGER_MS).unref();
}

const REASONS: Readonly<Record<string, readonly ['too_large' | 'invalid_request', string]>> = {
  HPE_HEADER_OVERFLOW: ['too_large', 'The headers are too large.'],
  ERR_HTTP_REQUEST_TIMEOUT: ['invalid_request', 'The request did not arrive in time.'],
};
