import { type ErrorCode, SidecarError } from '../domain/errors.ts';
import type { EventBus } from '../domain/events.ts';
import { type RetryPlan, retry } from '../policy/retry.ts';
import { type JsonAnswer, readJson, type SizeLimit } from '../upstream/json.ts';
import type { Call, MlflowClient } from '../upstream/mlflow-client.ts';
import { discard } from '../upstream/transport.ts';

/** All tries of one registry request and the waits between them. */
const BUDGET_MS = 30_000;
/** The largest real answer, a page of a hundred logged models, is far smaller. */
const ANSWER_LIMIT: SizeLimit = { maxBytes: 4 * 1024 * 1024, code: 'mlflow_error' };

const TRANSIENT: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'mlflow_unreachable',
  'mlflow_timeout',
  'mlflow_error',
]);

/** One question to the registry, as a path below `/api/2.0/mlflow/`. */
export interface Question {
  readonly path: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly body?: unknown;
  /** An endpoint that older servers do not have: any 404 is an answer. */
  readonly sinceMlflow3?: true;
}

export interface RegistryCall extends Call {
  /** Told before each try, 1 being the first. */
  readonly onTry?: (attempt: number) => void;
  readonly onAnswered?: () => void;
}

export interface RegistryClientOptions {
  readonly client: MlflowClient;
  readonly baseUri: string;
  readonly attempts: number;
  readonly tryTimeoutMs: number;
  readonly events: EventBus;
}

/** Asks one MLflow server, with retries; its answers are still unknown JSON. */
export class RegistryClient {
  readonly #options: RegistryClientOptions;
  readonly #plan: RetryPlan;

  constructor(options: RegistryClientOptions) {
    this.#options = options;
    this.#plan = { attempts: options.attempts, tryTimeoutMs: options.tryTimeoutMs, budgetMs: BUDGET_MS };
  }

  /**
   * @returns a success, or a 400 or 404 in MLflow's own shape
   * @throws SidecarError where no answer came that says anything
   */
  async ask(question: Question, call: RegistryCall): Promise<JsonAnswer> {
    const what = `MLflow at ${this.#options.baseUri}`;
    return await retry(
      this.#plan,
      this.#hooks(what, question, call),
      call.signal,
      async (signal, attempt) => {
        call.onTry?.(attempt);
        const answer = await this.#askOnce(what, question, { ...call, signal });
        call.onAnswered?.();
        return answer;
      },
    );
  }

  async #askOnce(what: string, question: Question, call: Call): Promise<JsonAnswer> {
    const response = await this.#options.client.send(what, this.#request(question), call);
    if (question.sinceMlflow3 && response.statusCode === 404) {
      discard(response);
      return { status: 404, body: {}, message: 'not found (MLflow has logged models from version 3 on)' };
    }
    return await readJson(what, response, ANSWER_LIMIT, call.signal);
  }

  #request(question: Question): { url: URL; method: 'GET' | 'POST'; body?: string } {
    const url = new URL(`${this.#options.baseUri}/api/2.0/mlflow/${question.path}`);
    for (const [key, value] of Object.entries(question.query ?? {})) url.searchParams.set(key, value);
    if (question.body === undefined) return { url, method: 'GET' };
    return { url, method: 'POST', body: JSON.stringify(question.body) };
  }

  #hooks(what: string, question: Question, call: RegistryCall) {
    return {
      isTransient: (error: SidecarError) => TRANSIENT.has(error.code),
      timeoutError: (ms: number) =>
        new SidecarError('mlflow_timeout', `${what} did not answer within ${ms / 1_000} s.`),
      onFailure: (attempt: number, error: SidecarError, retryInMs: number | null) => {
        call.onTryFailed?.(error);
        this.#options.events.emit({
          type: 'try_failed',
          what: question.path,
          attempt,
          origin: call.origin,
          error,
          retryInMs,
        });
      },
    };
  }
}
