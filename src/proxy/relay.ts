import type { Clock } from '../domain/clock.ts';
import { type ErrorCode, SidecarError } from '../domain/errors.ts';
import type { EventBus } from '../domain/events.ts';
import type { Breaker } from '../policy/breaker.ts';
import { type FloorLimits, ProgressFloor } from '../policy/progress-floor.ts';
import { type RetryPlan, retry } from '../policy/retry.ts';
import { bodyLength } from '../upstream/body-length.ts';
import { connectionError } from '../upstream/failure.ts';
import type { ResponseHead } from '../upstream/receive.ts';
import { answerHeaders } from '../upstream/relay-headers.ts';
import type { Transport, UpstreamResponse } from '../upstream/transport.ts';
import { Upload } from '../upstream/upload.ts';
import { effectOf } from './effect.ts';
import { isWithheld, withheldError } from './not-relayed.ts';
import { belowFloor, endless, failureOf, noTrial, tooLate } from './relay-errors.ts';
import { headersOf, isShort, type RelayKind, type RelayRequest } from './relay-request.ts';

/**
 * To the head of the answer: in all tries where the request is short, else from the end of its body. A registry's answers are short;
 * a search of many runs or a batch of metrics takes a busy server its time; a file that came is staged before it is answered.
 */
const ANSWER_MS: Readonly<Record<RelayKind, number>> = {
  registry: 8_000,
  tracking: 30_000,
  artifacts: 120_000,
};
/** The one request that is to find out whether MLflow is back. */
const TRIAL_MS = 8_000;
/** Nothing of the request's body moved: somebody hangs. */
const IDLE_MS = 30_000;
/** A further try begins within it: an unmodified client has no deadline of its own. */
const TRIES_MS = 8_000;
const FOREVER = Number.POSITIVE_INFINITY;
const PLAN: RetryPlan = { attempts: 3, tryTimeoutMs: FOREVER, budgetMs: FOREVER };
const ONCE: RetryPlan = { ...PLAN, attempts: 1 };
const TRANSIENT: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['mlflow_unreachable', 'mlflow_timeout']);
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
  readonly breakerOf: (kind: RelayKind) => Breaker;
  /** For whoever names none: what a caller reads is of this one, too. */
  readonly workspace?: string | null;
  /** Of bodies, the requests' and the answers'. */
  readonly floor: FloorLimits;
  readonly clock: Clock;
  readonly events: EventBus;
  readonly answerMs?: Readonly<Record<RelayKind, number>>;
  readonly trialMs?: number;
  readonly idleMs?: number;
}

/** How long one try may take to the head of its answer. */
interface TryLimit {
  /** Milliseconds from now on. */
  readonly ms: number;
  readonly error: (upload: Upload | null) => SidecarError;
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
    request.onEffect?.(effectOf(status));
    if (isWithheld(status)) {
      const error = await withheldError(who, response, request.authorization);
      request.signal.throwIfAborted();
      throw error;
    }
    const length = bodyLength(request.method, response);
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
    const { breakerOf, clock, events, answerMs = ANSWER_MS, trialMs = TRIAL_MS } = this.#options;
    const { kind, method, url, body } = request;
    const breaker = breakerOf(kind);
    const isRepeatable = body === null && (method === 'GET' || method === 'HEAD');
    const isBrief = isShort(request);
    const limitMs = isBrief && kind !== 'artifacts' ? answerMs[kind] : FOREVER;
    const noMoreTries = new AbortController();
    const startedAt = clock.monotonic();
    let last: SidecarError | null = null;
    const hooks = {
      breaker,
      passesByItself: true as const,
      isTransient: ({ code }: SidecarError) => TRANSIENT.has(code),
      timeoutError: () => new SidecarError('mlflow_timeout', `${who} did not answer in time.`),
      onFailure: (attempt: number, error: SidecarError, retryInMs: number | null) => {
        last = error;
        const beginsAt = clock.monotonic() - startedAt + (retryInMs ?? 0);
        const isTooLate = retryInMs !== null && beginsAt > Math.min(TRIES_MS, limitMs);
        if (isTooLate) noMoreTries.abort(error);
        if (!TRANSIENT.has(error.code)) return;
        const what = `${method} ${url.pathname}`;
        const next = isTooLate ? null : retryInMs;
        events.emit({ type: 'try_failed', what, attempt, origin: null, error, retryInMs: next });
      },
    };
    const limitOf = (isTrial: boolean): TryLimit => {
      const inAllMs = isTrial ? Math.min(limitMs, trialMs) : limitMs;
      // A try that was cut because another had failed before it says no more than that one.
      const error = (upload: Upload | null) => last ?? tooLate(who, inAllMs, upload);
      return { ms: inAllMs - (clock.monotonic() - startedAt), error };
    };
    const until = AbortSignal.any([signal, noMoreTries.signal]);
    return await retry(isRepeatable ? PLAN : ONCE, hooks, until, () =>
      breaker.run(
        signal,
        async trial => {
          if (trial !== null && !isBrief) throw noTrial(who);
          return await this.#once(who, request, signal, limitOf(trial !== null));
        },
        saysNothing,
      ),
    );
  }

  async #once(
    who: string,
    request: RelayRequest,
    signal: AbortSignal,
    limit: TryLimit,
  ): Promise<UpstreamResponse> {
    const { transport, floor, clock, answerMs = ANSWER_MS, idleMs = IDLE_MS } = this.#options;
    const { kind, method, url, body } = request;
    const firstByteMs = answerMs[kind];
    const upload = body === null ? null : new Upload(body, { who, idleMs, floor, clock });
    const headers = { ...this.#workspace(), ...headersOf(request) };
    const late = new AbortController();
    const end = () => late.abort(limit.error(upload));
    const timer = limit.ms === FOREVER ? undefined : setTimeout(end, limit.ms);
    const ending = AbortSignal.any([signal, late.signal]);
    const onSending = () => request.onEffect?.('unknown');
    const sent = {
      ...{ url, method, headers, firstByteMs, signal: ending, onSending },
      isLast: true as const,
    };
    try {
      return await transport.request(upload === null ? sent : { ...sent, body: upload });
    } catch (error) {
      ending.throwIfAborted();
      throw failureOf(who, error, upload, firstByteMs);
    } finally {
      clearTimeout(timer);
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

/** It has answered, though perhaps only to say that it cannot. */
function saysNothing({ statusCode }: ResponseHead): boolean {
  return statusCode >= 500 || statusCode === 408 || statusCode === 429;
}
