import { type ErrorCode, SidecarError } from '../domain/errors.ts';
import type { EventBus } from '../domain/events.ts';
import { Allowance } from '../policy/allowance.ts';
import type { Breaker } from '../policy/breaker.ts';
import { throughOutages } from '../policy/patience.ts';
import { Places } from '../policy/places.ts';
import { type RetryPlan, retry } from '../policy/retry.ts';
import { isUnknownName, Refusal } from '../upstream/failure.ts';
import type { HealthProbe } from '../upstream/health.ts';
import { artifactItem, questionItem } from '../upstream/items.ts';
import { type AnswerLimits, type JsonAnswer, readJson } from '../upstream/json.ts';
import type { Wanted } from '../upstream/json-picker.ts';
import type { Call, MlflowClient } from '../upstream/mlflow-client.ts';
import { type AnswerShape, shapeFault, shapeOf, wantedOf } from './shapes.ts';

/** All tries of one registry request and the waits between them. */
export const BUDGET_MS = 30_000;
/** The same where the server never answered anything. */
const UNKNOWN_BUDGET_MS = 18_000;
/** MLflow's own workers are fewer. */
export const QUESTIONS_AT_ONCE = 32;
const PLACES = { inFlight: QUESTIONS_AT_ONCE, waiting: 1_000 };
/** A page of logged models with their metric curves has tens of megabytes, of which next to nothing is read. */
const MAX_BYTES = 64 * 1024 * 1024;
/** So many connections as are left for questions that somebody waits for. */
const PASSING_AT_ONCE = QUESTIONS_AT_ONCE / 2;

const TRANSIENT: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'mlflow_unreachable',
  'mlflow_timeout',
  'mlflow_error',
]);

const NOT_THERE: JsonAnswer = notThere('not found (MLflow has it from version 3 on)');

function notThere(message: string): JsonAnswer {
  const body = { error_code: 'ENDPOINT_NOT_FOUND', message };
  return { status: 404, body, text: JSON.stringify(body), message };
}

/** One question to MLflow, as a path below `/api/2.0/mlflow/` or another part of its API. */
export interface Question {
  readonly path: string;
  readonly below?: '3.0/mlflow' | '2.0/mlflow-artifacts';
  readonly query?: Readonly<Record<string, string>> | readonly (readonly [string, string])[];
  readonly body?: unknown;
  /** Of its answer; what is longer than is held goes on to whoever asked, and is read meanwhile or not. */
  readonly passes?: 'read' | 'unread';
  /** Of its answer, in bytes, where it is short. */
  readonly maxBytes?: number;
  /** An endpoint that older servers do not have: any 404 is an answer. */
  readonly sinceMlflow3?: true;
}

/** Whether a question is about registered models, and not about runs, experiments or logged models. */
export function isOfRegistry(path: string): boolean {
  return /^(registered-models|model-versions)\//.test(path);
}

export interface RegistryCall extends Call {
  /** Told whose word each question needs, before it may be refused. */
  readonly onAsk?: (breaker: Breaker) => void;
  /** Told before each try, 1 being the first. */
  readonly onTry?: (attempt: number) => void;
  readonly onAnswered?: () => void;
}

type AnswerListener = (question: Question, answer: JsonAnswer, call: RegistryCall) => void;

export interface RegistryClientOptions {
  readonly client: MlflowClient;
  readonly baseUri: string;
  readonly attempts: number;
  readonly tryTimeoutMs: number;
  readonly budgetMs?: number;
  readonly events: EventBus;
  /** Of what is asked: two parts of one server may fail apart. */
  readonly breakerOf?: (question: Question) => Breaker;
  readonly health?: HealthProbe;
}

/** Asks one MLflow server, with retries; its answers are still unknown JSON. */
export class RegistryClient {
  readonly #options: RegistryClientOptions;
  readonly #plan: RetryPlan;
  readonly #places: Places;
  readonly #passing = new Allowance(PASSING_AT_ONCE);
  #listener: AnswerListener | null = null;

  constructor(options: RegistryClientOptions) {
    this.#options = options;
    const { attempts, tryTimeoutMs, budgetMs = BUDGET_MS } = options;
    this.#plan = { attempts, tryTimeoutMs, budgetMs };
    this.#places = new Places(this.#who, PLACES);
  }

  /** Has somebody told of every answer, a 400 or 404 included. */
  listen(listener: AnswerListener): void {
    this.#listener = listener;
  }

  /** Questions that wait for their turn. */
  get waiting(): number {
    return this.#places.waiting;
  }

  /**
   * @returns a success, or a 400 or 404 in MLflow's own shape
   * @throws SidecarError where no answer came that says anything; `circuit_open` or `overloaded` where it was not asked
   */
  async ask(question: Question, call: RegistryCall): Promise<JsonAnswer> {
    const hooks = this.#hooks(question, call);
    if (hooks.breaker !== undefined) call.onAsk?.(hooks.breaker);
    // The wait for a place is outside of all times: it must not look like an MLflow that is slow.
    const ask = () =>
      this.#places.run(call.signal, () =>
        retry(this.#planFor(hooks.breaker), hooks, call.signal, async (signal, attempt) => {
          call.onTry?.(attempt);
          this.#options.health?.beside();
          const answer = await this.#askOnce(this.#who, question, { ...call, signal });
          this.#options.health?.answered();
          call.onAnswered?.();
          this.#listener?.(question, answer, call);
          return answer;
        }),
      );
    const { patience, signal, onTryFailed } = call;
    const asked = throughOutages({ ...hooks, patience, signal, onWait: onTryFailed }, ask);
    return await asked.catch(error => this.#explained(error));
  }

  /** With what MLflow's health says about it. */
  #explained(error: unknown): never {
    const words = this.#options.health?.words() ?? '';
    const isPlain = error instanceof SidecarError && !(error instanceof Refusal);
    if (!isPlain || !TRANSIENT.has(error.code) || words === '') throw error;
    const { code, message, hint, retryAfterS } = error;
    throw new SidecarError(code, message + words, {
      hint: hint ?? undefined,
      retryAfterS: retryAfterS ?? undefined,
      cause: error,
    });
  }

  /** An address where nobody ever answered is most likely wrong, which is told sooner. */
  #planFor(breaker: Breaker | undefined): RetryPlan {
    if (breaker === undefined || breaker.hasAnswered) return this.#plan;
    return { ...this.#plan, budgetMs: Math.min(this.#plan.budgetMs, UNKNOWN_BUDGET_MS) };
  }

  get #who(): string {
    return `MLflow at ${this.#options.baseUri}`;
  }

  async #askOnce(what: string, question: Question, call: Call): Promise<JsonAnswer> {
    const response = await this.#options.client.send(what, this.#request(question), call);
    const isOlderServers = question.sinceMlflow3 === true && response.statusCode === 404;
    const shape = shapeOf(question.path);
    const limits = this.#limits(question, wantedOf(shape));
    const answer = await readJson(what, response, limits, call.signal).catch((error: unknown) => {
      if (isOlderServers && !call.signal.aborted) return NOT_THERE;
      throw error;
    });
    if (answer.status < 400 && answer.passing === undefined) assertShape(what, shape, answer);
    return answer;
  }

  #limits({ maxBytes = MAX_BYTES, passes }: Question, wanted: Wanted): AnswerLimits {
    const limits = { maxBytes, code: 'too_large', wanted } as const;
    return passes === undefined
      ? limits
      : { ...limits, passing: { places: this.#passing, isRead: passes === 'read' } };
  }

  #request(question: Question): { url: URL; method: 'GET' | 'POST'; body?: string } {
    const url = new URL(`${this.#options.baseUri}/api/${question.below ?? '2.0/mlflow'}/${question.path}`);
    const { query = {} } = question;
    const pairs = Array.isArray(query) ? query : Object.entries(query);
    for (const [key, value] of pairs) url.searchParams.append(key, value);
    if (question.body === undefined) return { url, method: 'GET' };
    return { url, method: 'POST', body: JSON.stringify(question.body) };
  }

  #hooks(question: Question, call: RegistryCall) {
    return {
      breaker: this.#options.breakerOf?.(question),
      item: itemOf(question),
      isPatient: call.patience !== undefined,
      isNeutral: ({ status }: JsonAnswer) => status >= 400,
      isTransient: (error: SidecarError) =>
        TRANSIENT.has(error.code) &&
        !(error instanceof Refusal) &&
        !(isUnknownName(error) && this.#options.breakerOf?.(question).hasAnswered === false),
      timeoutError: (ms: number) =>
        new SidecarError('mlflow_timeout', `${this.#who} did not answer within ${ms / 1_000} s.`),
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

function itemOf({ path, below, query = {}, body }: Question): string {
  const pairs = Array.isArray(query) ? query : Object.entries(query);
  if (below === '2.0/mlflow-artifacts') {
    const [, dir = ''] = pairs.find(([key]) => key === 'path') ?? [];
    return artifactItem([...dir.split('/'), '']);
  }
  return questionItem(path, [...pairs, ...Object.entries(Object(body))]);
}

/** Somebody on the way answers in MLflow's place, or MLflow is not well: it is asked again, and nothing is taken for missing. */
function assertShape(what: string, shape: AnswerShape | null, { body, message }: JsonAnswer): void {
  const fault = typeof body === 'object' && body !== null ? shapeFault(shape, body) : 'no object';
  if (fault === null) return;
  const said = message === null ? '' : ` It says: "${message}".`;
  throw new SidecarError('mlflow_error', `${what}: an answer that MLflow does not give (${fault}).${said}`);
}
