import type { Clock } from '../domain/clock.ts';
import { SidecarError, toSidecarError } from '../domain/errors.ts';
import { withTimeout } from '../policy/abort.ts';
import type { Pulse } from '../policy/recovery.ts';
import { isNobodyThere } from './failure.ts';
import type { MlflowClient } from './mlflow-client.ts';

/** A success this recent tells more than a probe could. */
const FRESH_MS = 10_000;

/** How often it is asked while a server is left alone or waited for. */
const WATCH_MS = 5_000;
/** Where nobody takes the connection: then the server does not even notice. */
const NOBODY_MS = 1_000;

/** What MLflow's `/health` last said. */
export interface Health {
  readonly ok: boolean;
  /** Milliseconds since 1970. */
  readonly at: number;
  readonly latencyMs: number;
  readonly error: string | null;
}

export interface HealthProbeOptions {
  readonly client: MlflowClient;
  readonly baseUri: string;
  readonly clock: Clock;
  /** As long as the try that it goes beside, so that it does not outlive the question. */
  readonly timeoutMs: number;
  /** Aborts when the process ends. */
  readonly stop: AbortSignal;
}

/**
 * Asks MLflow's own `/health`: beside a question, where it has not answered one for a while, to tell an MLflow that is down from one
 * that is stuck in this question; and every 5 s while somebody watches, to tell when it is back. It holds nobody up.
 */
export class HealthProbe implements Pulse {
  readonly #options: HealthProbeOptions;
  #answeredAt = Number.NEGATIVE_INFINITY;
  #probedAt = Number.NEGATIVE_INFINITY;
  #isUnderWay = false;
  #last: Health | null = null;
  #isNobodyThere = false;
  readonly #watchers = new Set<(isWell: boolean) => void>();
  #timer: NodeJS.Timeout | undefined;

  constructor(options: HealthProbeOptions) {
    this.#options = options;
  }

  get last(): Health | null {
    return this.#last;
  }

  watch(onHealth: (isWell: boolean) => void): () => void {
    // Each watch is its own, also of one function.
    const watcher = (isWell: boolean) => onHealth(isWell);
    this.#watchers.add(watcher);
    this.#timer ??= this.#next();
    return () => {
      this.#watchers.delete(watcher);
      if (this.#watchers.size === 0) this.#rest();
    };
  }

  failed(error: SidecarError): void {
    const wasNobodyThere = this.#isNobodyThere;
    this.#isNobodyThere = isNobodyThere(error);
    if (this.#timer === undefined || wasNobodyThere || !this.#isNobodyThere) return;
    this.#rest();
    this.#timer = this.#next();
  }

  #next(): NodeJS.Timeout {
    const timer = setTimeout(() => void this.#look(), this.#isNobodyThere ? NOBODY_MS : WATCH_MS);
    return timer.unref();
  }

  #rest(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  async #look(): Promise<void> {
    if (!this.#isUnderWay) await this.#probe();
    const isWell = this.#last?.ok === true;
    for (const watcher of [...this.#watchers]) watcher(isWell);
    this.#rest();
    if (this.#watchers.size > 0 && !this.#options.stop.aborted) this.#timer = this.#next();
  }

  /** A question was answered. */
  answered(): void {
    this.#answeredAt = this.#options.clock.monotonic();
  }

  /** A question is being sent. */
  beside(): void {
    const since = this.#options.clock.monotonic() - FRESH_MS;
    if (this.#isUnderWay || this.#answeredAt > since || this.#probedAt > since) return;
    void this.#probe();
  }

  /** What it adds to the reason for a failure; empty where it has not spoken lately. */
  words(): string {
    // While the next one is on its way, the one before it says nothing of now.
    if (this.#isUnderWay || this.#last === null) return '';
    if (this.#options.clock.monotonic() - this.#probedAt > FRESH_MS) return '';
    return this.#last.ok
      ? " MLflow's own /health answers, so the server itself runs."
      : " MLflow's own /health fails too.";
  }

  async #probe(): Promise<void> {
    const { clock } = this.#options;
    const startedAt = clock.monotonic();
    this.#isUnderWay = true;
    this.#probedAt = startedAt;
    const error = await this.#ask();
    const latencyMs = clock.monotonic() - startedAt;
    this.#last = { ok: error === null, at: clock.now(), latencyMs, error };
    this.#isUnderWay = false;
  }

  /** Why it is not well; null where it is. */
  async #ask(): Promise<string | null> {
    const { client, baseUri, timeoutMs, stop } = this.#options;
    const url = new URL(`${baseUri}/health`);
    const tooSlow = () => new SidecarError('mlflow_timeout', `no answer within ${timeoutMs / 1_000} s`);
    try {
      return await withTimeout(timeoutMs, stop, tooSlow, async signal => {
        const call = { signal, authorization: null, origin: null };
        const response = await client.send('/health', { url, method: 'GET' }, call);
        response.body.close();
        this.#isNobodyThere = false;
        return response.statusCode === 200 ? null : `HTTP ${response.statusCode}`;
      });
    } catch (thrown) {
      const error = toSidecarError(thrown);
      this.#isNobodyThere = isNobodyThere(error);
      return error.message;
    }
  }
}
