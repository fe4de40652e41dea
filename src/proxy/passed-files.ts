import { type Clock, steady } from '../domain/clock.ts';
import { type ErrorCode, SidecarError, toSidecarError } from '../domain/errors.ts';
import type { EventBus } from '../domain/events.ts';
import { TOO_LATE, within, withTimeout } from '../policy/abort.ts';
import type { Breaker } from '../policy/breaker.ts';
import { type Patience, throughOutages } from '../policy/patience.ts';
import { type FloorLimits, ProgressFloor } from '../policy/progress-floor.ts';
import { retry } from '../policy/retry.ts';
import type { RegistryWatch } from '../reload/registry-watch.ts';
import { contentLength, isAboutTheRequest, Refusal, singleHeader, statusError } from '../upstream/failure.ts';
import { artifactItem } from '../upstream/items.ts';
import type { MlflowClient, MlflowResponse } from '../upstream/mlflow-client.ts';
import { answered } from './answer.ts';
import type { Asker } from './asker.ts';
import type { KeptAnswers } from './kept-answers.ts';
import type { FileRequest, Opened, Passed } from './opened.ts';

const ATTEMPTS = 3;
const LONGEST_ERROR = 64 * 1024;
const TRANSIENT: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['mlflow_unreachable', 'mlflow_error']);
/** What is MLflow's to say of a file. */
const PASSED_HEADERS = [
  'content-type',
  'content-encoding',
  'content-disposition',
  'content-range',
  'accept-ranges',
  'etag',
  'last-modified',
];

export interface PassedFilesOptions {
  readonly client: Pick<MlflowClient, 'send'>;
  readonly trackingUri: string;
  readonly breaker: () => Breaker;
  readonly watch: RegistryWatch;
  readonly kept: KeptAnswers;
  readonly events: EventBus;
  readonly floor: FloorLimits;
  readonly refreshWaitMs: number;
  readonly maxStaleMs: number;
  /** Within which MLflow must begin its answer. */
  readonly deadlineMs: number;
  readonly clock: Clock;
}

/** Files that may change, and are asked of MLflow each time. */
export class PassedFiles {
  readonly #options: PassedFilesOptions;

  constructor(options: PassedFilesOptions) {
    this.#options = options;
  }

  /**
   * @param instead what there is to give where MLflow does not answer, or not soon
   * @throws SidecarError why it did not, where there is nothing instead
   */
  async open(
    request: FileRequest,
    asker: Asker,
    instead: (reason: SidecarError) => Promise<Opened | null>,
  ): Promise<Opened> {
    const { watch, refreshWaitMs } = this.#options;
    const key = JSON.stringify(['file', request.segments]);
    const old = async (reason: SidecarError) =>
      (await instead(reason)) ?? (await this.#lastAnswer(key, asker, reason));
    const slow = watch.slowReason();
    const atOnce = slow === null ? null : await old(slow);
    if (atOnce !== null) return atOnce;
    const leave = new AbortController();
    const waits = async (failure: SidecarError) => (await old(failure)) === null;
    const asked = this.#ask(request, asker, key, AbortSignal.any([request.signal, leave.signal]), waits);
    // Who leaves it does not wait for it.
    asked.catch(() => undefined);
    try {
      const first = await within(refreshWaitMs, asked);
      if (first !== TOO_LATE) return first;
      const reason = new SidecarError(
        'artifact_timeout',
        `MLflow did not answer within ${refreshWaitMs / 1_000} s.`,
      );
      const soon = await old(reason);
      if (soon === null) return await asked;
      leave.abort(reason);
      // Where it was answered meanwhile, that reaches its body no more.
      asked.then(
        passed => passed.close(),
        () => undefined,
      );
      return soon;
    } catch (thrown) {
      const error = toSidecarError(thrown);
      if (error instanceof Refusal)
        return {
          kind: 'answer',
          answer: answered(error.answer.text, error.answer.status, error.answer.contentType),
        };
      const found = await old(error);
      if (found !== null) return found;
      throw error;
    }
  }

  /** That there is no such file is a part of loading what a run logged. */
  async #lastAnswer(key: string, { scope }: Asker, reason: SidecarError): Promise<Opened | null> {
    const { kept, maxStaleMs } = this.#options;
    const answer = await kept.last(scope, key, maxStaleMs);
    return answer === null ? null : { kind: 'answer', answer: { ...answer, stale: reason.code } };
  }

  async #ask(
    request: FileRequest,
    asker: Asker,
    key: string,
    signal: AbortSignal,
    waits: Patience['waits'],
  ): Promise<Passed> {
    const { deadlineMs, breaker, events, client, kept, watch, clock } = this.#options;
    const what = `The artifact ${request.segments.join('/')}`;
    const { authorization, workspace } = asker.caller;
    const call = { authorization, workspace, origin: null };
    let last: SidecarError | null = null;
    const plan = { attempts: ATTEMPTS, tryTimeoutMs: deadlineMs, budgetMs: deadlineMs };
    const hooks = {
      breaker: breaker(),
      item: artifactItem(request.segments),
      isPatient: true,
      isTransient: (error: SidecarError) => TRANSIENT.has(error.code) && !(error instanceof Refusal),
      timeoutError: (ms: number) =>
        new SidecarError('artifact_timeout', `${what} did not come within ${ms / 1_000} s.`),
      onFailure: (attempt: number, error: SidecarError, retryInMs: number | null) => {
        // That there is no such file is an answer.
        if (error instanceof Refusal) return;
        last = error;
        watch.failed(error);
        events.emit({ type: 'try_failed', what, attempt, origin: null, error, retryInMs });
      },
    };
    const ask = async (trySignal: AbortSignal) => {
      const { method, headers } = request;
      const response = await client.send(
        what,
        { url: this.#address(request), method, headers },
        { ...call, signal: trySignal },
      );
      const { statusCode: status } = response;
      if (status === 200 || status === 206 || status === 304 || status === 416)
        return this.#passed(what, response, request);
      const text = await shortText(response);
      const error = statusError(what, response, text.slice(0, 200) || null);
      if (!isAboutTheRequest(status)) throw error;
      const contentType = singleHeader(response.headers['content-type']) ?? 'text/plain';
      if (status === 404)
        kept.keep(
          asker.scope,
          { key, route: 'artifacts' },
          answered(text, status, contentType),
          steady(clock),
        );
      throw new Refusal(error, { status, text, contentType });
    };
    const patience = { until: clock.monotonic() + deadlineMs, waits };
    const tooLate = () => last ?? hooks.timeoutError(deadlineMs);
    return await withTimeout(deadlineMs, signal, tooLate, until =>
      throughOutages({ ...hooks, patience, signal: until }, () => retry(plan, hooks, until, ask)),
    );
  }

  #address({ segments }: FileRequest): URL {
    const path = segments.map(encodeURIComponent).join('/');
    return new URL(`${this.#options.trackingUri}/api/2.0/mlflow-artifacts/artifacts/${path}`);
  }

  #passed(what: string, response: MlflowResponse, { method }: FileRequest): Passed {
    const length = contentLength(response);
    const isChunked = /\bchunked\b/i.test(singleHeader(response.headers['transfer-encoding']) ?? '');
    if (length === null && !isChunked && method === 'GET' && response.statusCode !== 304) {
      response.body.close();
      throw new SidecarError(
        'artifact_corrupt',
        `${what} came without a length, so that a cut could not be told from its end.`,
      );
    }
    const headers: Record<string, string> = {};
    for (const name of PASSED_HEADERS) {
      const value = singleHeader(response.headers[name]);
      if (value !== undefined) headers[name] = value;
    }
    const close = () => response.body.close();
    return {
      kind: 'passed',
      status: response.statusCode,
      headers,
      length,
      body: this.#watched(response),
      close,
    };
  }

  /** A trickle is a hang: it breaks off, and a client never takes it for whole. */
  async *#watched({ body }: MlflowResponse): AsyncGenerator<Uint8Array> {
    const floor = new ProgressFloor(this.#options.floor, () => body.close(), this.#options.clock);
    try {
      yield* floor.watch(body);
    } finally {
      floor.stop();
    }
  }
}

async function shortText(response: MlflowResponse): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response.body) {
    chunks.push(Buffer.from(chunk));
    size += chunk.byteLength;
    if (size > LONGEST_ERROR) break;
  }
  return response.redact(Buffer.concat(chunks).toString('utf8'));
}
