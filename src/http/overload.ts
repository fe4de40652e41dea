import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { type EventLoopUtilization, performance } from 'node:perf_hooks';
import type { ProxyMode } from '../config/options.ts';
import { SidecarError } from '../domain/errors.ts';
import type { EventBus } from '../domain/events.ts';
import { Admission, type Ticket } from './admission.ts';
import { requestIdOf } from './call.ts';
import { mlflowErrorText, mlflowStatusOf } from './mlflow/errors.ts';
import { problemOf } from './problem.ts';
import { errorLine } from './report.ts';
import { SlowReaders } from './slow-readers.ts';

/** How often it is looked how busy the event loop is. */
const SAMPLE_MS = 50;
/** How often refusals are told: one event each would be the load that they are to spare. */
const TELL_MS = 10_000;
/** Beyond it a connection gets an answer and is closed. Beyond twice as many it is closed without one. */
const MOST_CONNECTIONS = 1_000;
/** Answers that clients do not take off, in all. */
const MOST_UNREAD_BYTES = 64 * 1024 * 1024;
/** Requests on one connection that wait for the answer of the first; no usual client sends a second. */
const MOST_PIPELINED = 8;
/** A busy time lasts seconds, and whoever comes back at once prolongs it. */
const RETRY_AFTER_S = 5;

const PROBES = new Set(['/healthz', '/readyz', '/metrics']);
/** As MLflow's clients write them. */
const MLFLOWS = /^\/(?:api\/|(?:health|version)(?:\?|$))/;

const REASONS = {
  full: 'So many calls are under way that no other is taken in.',
  busy: 'More calls come than can be answered soon.',
  connections: 'Too many connections are open.',
  unread: 'Too many answers wait for clients that do not read them.',
  pipelined: 'Too many requests were sent on one connection before the first was answered.',
} as const;

type Reason = keyof typeof REASONS;

/** Stands before everything else: what cannot be answered soon is refused at once, before its body is read. */
export class OverloadGuard {
  readonly #admission = new Admission();
  readonly #slowReaders = new SlowReaders();
  readonly #events: EventBus;
  readonly #standsIn: boolean;
  readonly #sampler: NodeJS.Timeout;
  /** Unanswered requests by connection. */
  readonly #connections = new Map<Socket, number>();
  readonly #surplus = new WeakSet<Socket>();
  #lastUse: EventLoopUtilization = performance.eventLoopUtilization();
  #lastAt = performance.now();
  #refused = 0;
  #lastReason: Reason = 'busy';
  #toldAt = Number.NEGATIVE_INFINITY;

  /** @param proxy other than `off`, MLflow's clients are refused in MLflow's way */
  constructor(server: Server, events: EventBus, proxy: ProxyMode) {
    this.#events = events;
    this.#standsIn = proxy !== 'off';
    this.#sampler = setInterval(() => this.#sample(), SAMPLE_MS).unref();
    server.maxConnections = 2 * MOST_CONNECTIONS;
    server.on('connection', (socket: Socket) => this.#open(socket));
    server.once('close', () => clearInterval(this.#sampler));
  }

  /** Whether the app is to answer; if not, it is answered already. */
  admits(req: IncomingMessage, res: ServerResponse): boolean {
    this.#slowReaders.watch(res);
    const { socket } = req;
    const unanswered = this.#connections.get(socket) ?? 0;
    this.#connections.set(socket, unanswered + 1);
    const ticket = isProbe(req.url ?? '') ? null : this.#admit(socket, unanswered);
    res.once('close', () => this.#answered(socket, ticket));
    if (typeof ticket !== 'string') return true;
    this.#refuse(req, res, ticket);
    return false;
  }

  #admit(socket: Socket, unanswered: number): Ticket | Reason {
    if (this.#surplus.has(socket)) return 'connections';
    if (unanswered >= MOST_PIPELINED) return 'pipelined';
    if (this.#slowReaders.unreadBytes > MOST_UNREAD_BYTES) return 'unread';
    return this.#admission.admit();
  }

  #answered(socket: Socket, ticket: Ticket | Reason | null): void {
    const unanswered = this.#connections.get(socket);
    if (unanswered !== undefined) this.#connections.set(socket, unanswered - 1);
    if (ticket !== null && typeof ticket !== 'string') this.#admission.release(ticket);
  }

  #open(socket: Socket): void {
    if (this.#connections.size >= MOST_CONNECTIONS) this.#surplus.add(socket);
    this.#connections.set(socket, 0);
    socket.once('close', () => this.#connections.delete(socket));
  }

  #refuse(req: IncomingMessage, res: ServerResponse, reason: Reason): void {
    this.#refused += 1;
    this.#lastReason = reason;
    const { 'x-request-id': requestId, accept = '' } = req.headers;
    const isToMlflow = this.#standsIn && MLFLOWS.test(req.url ?? '');
    const answers = isToMlflow ? MLFLOW_ERRORS : accept.includes('text/plain') ? TEXTS : PROBLEMS;
    const { status, type, length, body } = answers[reason];
    const keepsOpen = reason === 'full' || reason === 'busy' || reason === 'unread';
    res.writeHead(status, [
      ...['Content-Type', type, 'Content-Length', length],
      ...(status === 503 ? ['Retry-After', String(RETRY_AFTER_S)] : []),
      ...['X-Request-Id', requestIdOf(typeof requestId === 'string' ? requestId : undefined)],
      ...['Cache-Control', 'no-store', 'X-Content-Type-Options', 'nosniff'],
      ...(keepsOpen ? [] : ['Connection', 'close']),
    ]);
    res.end(body);
  }

  #sample(): void {
    const now = performance.now();
    const use = performance.eventLoopUtilization();
    const { utilization } = performance.eventLoopUtilization(use, this.#lastUse);
    this.#admission.sample(utilization, now - this.#lastAt);
    this.#lastUse = use;
    this.#lastAt = now;
    if (this.#refused === 0 || now - this.#toldAt < TELL_MS) return;
    const error = new SidecarError('overloaded', REASONS[this.#lastReason]);
    this.#events.emit({ type: 'requests_shed', count: this.#refused, error });
    this.#refused = 0;
    this.#toldAt = now;
  }
}

function isProbe(url: string): boolean {
  const end = url.indexOf('?');
  return PROBES.has(end < 0 ? url : url.slice(0, end));
}

const HINT = 'Come back after Retry-After, and ask for several models in one call (model_uris).';

function textOf(detail: string) {
  return answer(503, 'text/plain; charset=utf-8', `${errorLine('overloaded', detail)}\n   ${HINT}\n`);
}

function jsonOf(detail: string) {
  const problem = { ...problemOf(503, 'overloaded', detail, HINT), status: 503 };
  return answer(503, 'application/problem+json', JSON.stringify(problem));
}

/** MLflow's client would come back seven times by itself. */
function mlflowsOf(detail: string) {
  const error = new SidecarError('overloaded', detail, { hint: 'Load the model again later.' });
  return answer(mlflowStatusOf(error.code), 'application/json', mlflowErrorText(error));
}

/** A text, which goes out with the headers in one piece; a buffer would be another. */
function answer(status: number, type: string, body: string) {
  return { status, type, length: String(Buffer.byteLength(body)), body };
}

// Made once: under a load that is refused ten times as often as it is taken in, every microsecond counts.
const TEXTS = eachReason(textOf);
const PROBLEMS = eachReason(jsonOf);
const MLFLOW_ERRORS = eachReason(mlflowsOf);

function eachReason<T>(make: (detail: string) => T): Readonly<Record<Reason, T>> {
  const { full, busy, connections, unread, pipelined } = REASONS;
  return {
    full: make(full),
    busy: make(busy),
    connections: make(connections),
    unread: make(unread),
    pipelined: make(pipelined),
  };
}
