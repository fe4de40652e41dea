import type { IncomingHttpHeaders } from 'node:http';
import type { Readable } from 'node:stream';
import type { Clock } from '../domain/clock.ts';
import { type ErrorCode, errnoOf, SidecarError, toSidecarError } from '../domain/errors.ts';
import type { EventBus } from '../domain/events.ts';
import type { Breaker } from '../policy/breaker.ts';
import { type FloorLimits, ProgressFloor } from '../policy/progress-floor.ts';
import { type RetryPlan, retry } from '../policy/retry.ts';
import { connectionError, contentLength, isDroppedConnection } from '../upstream/failure.ts';
import type { ResponseHead } from '../upstream/receive.ts';
import { answerHeaders, requestHeaders } from '../upstream/relay-headers.ts';
import type { Transport, UpstreamResponse } from '../upstream/transport.ts';
import { Upload } from '../upstream/upload.ts';
import { isWithheld, withheldError } from './not-relayed.ts';

/** From the end of the request's body to the head of the answer. */
const FIRST_BYTE_MS = 60_000;
/** Nothing of the request's body moved: somebody hangs. */
const IDLE_MS = 30_000;
/** A further try begins within it: an unmodified client has no deadline of its own. */
const TRIES_MS = 8_000;
const FOREVER = Number.POSITIVE_INFINITY;
const PLAN: RetryPlan = { attempts: 3, tryTimeoutMs: FOREVER, budgetMs: FOREVER };
const ONCE: RetryPlan = { ...PLAN, attempts: 1 };
const TRANSIENT: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['mlflow_unreachable', 'mlflow_timeout']);
/** undici's words for a request that it does not send. */
const NOT_SENDABLE = new Set([
  'UND_ERR_INVALID_ARG',
  'UND_ERR_NOT_SUPPORTED',
  'UND_ERR_REQ_CONTENT_LENGTH_MISMATCH',
]);

export interface RelayRequest {
  /** Any of HTTP's. */
  readonly method: string;
  /** Rebuilt from decoded, re-encoded segments on the upstream's base address. */
  readonly url: URL;
  /** The caller's, as they came. */
  readonly headers: IncomingHttpHeaders;
  /** The caller's, as it comes; null where there is none. It is not destroyed, and what is not sent of it stays unread. */
  readonly body: Readable | null;
  /** The caller's own; null where there is none, or where it was meant for the sidecar. */
  readonly authorization: string | null;
  /** Aborts when the caller has left, or the process ends. */
  readonly signal: AbortSignal;
}

/** MLflow's answer, to be passed on as it is. */
export interface RelayedAnswer {
  readonly status: number;
  readonly headers: Record<string, string | string[]>;
  /** What it says that the body is, in bytes, also where there is none, as with HEAD; null where only the end will tell. */
  readonly length: number | null;
  /**
   * To be read once. A piece is valid until the next one is asked for: whoever writes it waits until it was written. Where it
   * throws, the answer is not whole, and the caller's connection must not end as if it were.
   */
  readonly body: AsyncIterable<Uint8Array>;
  /** Gives up what was not read; always right at the end. */
  readonly close: () => void;
}

export interface RelayOptions {
  /** Where others keep connections open, a request may be lost with one that closes: best one of its own. */
  readonly transport: Transport;
  readonly breakerOf: (url: URL) => Breaker;
  /** For whoever names none: what a caller reads is of this one, too. */
  readonly workspace?: string | null;
  /** Of answers' bodies. */
  readonly floor: FloorLimits;
  readonly clock: Clock;
  readonly events: EventBus;
  readonly firstByteMs?: number;
  readonly idleMs?: number;
}

/** Passes requests on to MLflow and its answers back, both as they come, and never with the sidecar's own credential. */
export class Relay {
  readonly #options: RelayOptions;

  constructor(options: RelayOptions) {
    this.#options = options;
  }

  /**
   * @returns any answer but one with a status that MLflow's client would try again or follow, once its head is there
   * @throws SidecarError `circuit_open` where MLflow was not asked; `invalid_request` where the request cannot be sent or its body
   * stopped coming; `mlflow_unreachable`, `mlflow_timeout`, `mlflow_error`, or `artifact_corrupt` where nobody could tell the end
   * of the answer from a cut; or the signal's reason
   */
  async send(request: RelayRequest): Promise<RelayedAnswer> {
    const who = `MLflow at ${request.url.origin}`;
    const tooSlow = new AbortController();
    const signal = AbortSignal.any([request.signal, tooSlow.signal]);
    const response = await this.#inTries(who, request, signal);
    const { statusCode: status, body } = response;
    if (isWithheld(status)) {
      const error = await withheldError(who, response, request.authorization);
      request.signal.throwIfAborted();
      throw error;
    }
    const length = lengthOf(request.method, response);
    if (length === 'unknown') {
      body.close();
      throw endless(who);
    }
    return {
      status,
      headers: answerHeaders(response.headers),
      length,
      body: this.#watched(who, body, request.signal, tooSlow),
      close: () => body.close(),
    };
  }

  /** Only what may be done twice, and has had no answer, is tried again. */
  async #inTries(who: string, request: RelayRequest, signal: AbortSignal): Promise<UpstreamResponse> {
    const { breakerOf, clock, events } = this.#options;
    const { method, url, body } = request;
    const breaker = breakerOf(url);
    const isRepeatable = body === null && (method === 'GET' || method === 'HEAD');
    const noMoreTries = new AbortController();
    const startedAt = clock.monotonic();
    const hooks = {
      breaker,
      passesByItself: true as const,
      isTransient: ({ code }: SidecarError) => TRANSIENT.has(code),
      timeoutError: () => new SidecarError('mlflow_timeout', `${who} did not answer in time.`),
      onFailure: (attempt: number, error: SidecarError, retryInMs: number | null) => {
        const isTooLate = retryInMs !== null && clock.monotonic() - startedAt + retryInMs > TRIES_MS;
        if (isTooLate) noMoreTries.abort(error);
        if (!TRANSIENT.has(error.code)) return;
        const what = `${method} ${url.pathname}`;
        const next = isTooLate ? null : retryInMs;
        events.emit({ type: 'try_failed', what, attempt, origin: null, error, retryInMs: next });
      },
    };
    const until = AbortSignal.any([signal, noMoreTries.signal]);
    return await retry(isRepeatable ? PLAN : ONCE, hooks, until, () =>
      pastBreaker(breaker, signal, () => this.#once(who, request, signal)),
    );
  }

  async #once(who: string, request: RelayRequest, signal: AbortSignal): Promise<UpstreamResponse> {
    const { transport, firstByteMs = FIRST_BYTE_MS, idleMs = IDLE_MS } = this.#options;
    const { method, url, body } = request;
    const upload = body === null ? null : new Upload(body, { who, idleMs });
    const headers = { ...this.#workspace(), ...headersOf(request) };
    const sent = { ...{ url, method, headers, firstByteMs, signal }, isLast: true as const };
    try {
      return await transport.request(upload === null ? sent : { ...sent, body: upload });
    } catch (error) {
      signal.throwIfAborted();
      throw failureOf(who, error, upload, firstByteMs);
    }
  }

  #workspace(): Record<string, string> {
    const { workspace = null } = this.#options;
    return workspace === null ? {} : { 'x-mlflow-workspace': workspace };
  }

  async *#watched(
    who: string,
    body: AsyncIterable<Uint8Array>,
    signal: AbortSignal,
    tooSlow: AbortController,
  ): AsyncGenerator<Uint8Array> {
    const { floor: limits, clock } = this.#options;
    const floor = new ProgressFloor(limits, () => tooSlow.abort(belowFloor(who, limits)), clock);
    try {
      yield* floor.watch(body);
    } catch (error) {
      signal.throwIfAborted();
      throw connectionError(who, error);
    } finally {
      floor.stop();
    }
  }
}

/** Never its trial: that must end soon, and be something that may be asked twice. */
async function pastBreaker(
  breaker: Breaker,
  signal: AbortSignal,
  work: () => Promise<UpstreamResponse>,
): Promise<UpstreamResponse> {
  const refused = breaker.refusal();
  if (refused !== null) throw refused;
  return breaker.state === 'closed' ? await breaker.run(signal, work, saysNothing) : await work();
}

/** It has answered, though perhaps only to say that it cannot. */
function saysNothing({ statusCode }: ResponseHead): boolean {
  return statusCode >= 500 || statusCode === 408 || statusCode === 429;
}

function headersOf({ headers, body, authorization }: RelayRequest): Record<string, string> {
  const length = body === null ? undefined : headers['content-length'];
  return {
    ...requestHeaders(headers),
    ...(length === undefined ? {} : { 'content-length': length }),
    ...(authorization === null ? {} : { authorization }),
  };
}

/** In bytes; null where it comes in chunks; unknown where it ends with the connection. */
function lengthOf(method: string, response: ResponseHead): number | null | 'unknown' {
  const { statusCode, headers } = response;
  const hasBody = method !== 'HEAD' && statusCode !== 204 && statusCode !== 304;
  const codings = [headers['transfer-encoding'] ?? []].flat().join(',').toLowerCase();
  if (/(^|,)\s*chunked\s*$/.test(codings)) return null;
  return contentLength(response) ?? (hasBody ? 'unknown' : null);
}

function failureOf(who: string, error: unknown, upload: Upload | null, firstByteMs: number): SidecarError {
  const code = errnoOf(error);
  if (code === 'UND_ERR_HEADERS_TIMEOUT')
    return new SidecarError('mlflow_timeout', `${who}: no answer within ${firstByteMs / 1_000} s.`);
  if (NOT_SENDABLE.has(code)) {
    const { message } = toSidecarError(error);
    return new SidecarError('invalid_request', `The request cannot be passed on: ${message}.`);
  }
  const failure = connectionError(who, error);
  if (upload === null || !upload.isUnderWay || !isDroppedConnection(failure)) return failure;
  // Servers that refuse a body unread hang up, at times before their answer was read: that is no failure of theirs.
  const { hint, message } = failure;
  const isNoFault = { hint: hint ?? undefined, cause: error, serverFault: false };
  return new SidecarError(failure.code, `${message} It had not taken all of the request's body.`, isNoFault);
}

function endless(who: string): SidecarError {
  const message = `${who}: the answer has neither a length nor a visible end, so that a cut could not be told.`;
  return new SidecarError('artifact_corrupt', message, {
    hint: 'Have what stands in front of MLflow speak HTTP/1.1 with Content-Length or chunks.',
  });
}

function belowFloor(who: string, { bytesPerSecond, windowS }: FloorLimits): SidecarError {
  const speed = `${bytesPerSecond / 1_024} KiB/s`;
  return new SidecarError(
    'mlflow_timeout',
    `${who}: the answer came at less than ${speed} for ${windowS} s.`,
  );
}
