import type { Caller } from '../domain/caller.ts';
import type { Clock } from '../domain/clock.ts';
import { SidecarError, toSidecarError } from '../domain/errors.ts';
import type { Scope } from '../domain/scope.ts';
import { TOO_LATE, within } from '../policy/abort.ts';
import { SingleFlight } from '../policy/single-flight.ts';
import type { RegistryClient } from '../registry/client.ts';
import { type RegistryWatch, TELLING_WAIT_MS } from '../reload/registry-watch.ts';
import type { Cache } from '../store/cache.ts';
import { Refusal } from '../upstream/failure.ts';
import type { JsonAnswer } from '../upstream/json.ts';
import { type Answer, answered } from './answer.ts';
import type { Interests } from './interests.ts';
import type { KeptAnswers } from './kept-answers.ts';
import { learn } from './learn.ts';
import type { Lookback } from './lookback.ts';
import type { Read } from './reads.ts';

/** An unmodified client has no deadline of its own: within this it learns that there is nothing to give. */
export const PROXIED_MS = 8_000;

export interface QuestionsOptions {
  readonly servers: Readonly<
    Record<Read['server'], { readonly asks: Pick<RegistryClient, 'ask'>; readonly uri: string }>
  >;
  readonly watch: RegistryWatch;
  readonly cache: Cache;
  readonly kept: KeptAnswers;
  readonly lookback: Lookback;
  readonly interests: Interests;
  readonly refreshWaitMs: number;
  readonly maxStaleMs: number;
  readonly freshMs: number;
  readonly clock: Clock;
  /** Aborts when the process ends. */
  readonly stop: AbortSignal;
}

/** What the cache knows beside kept answers. */
type LookBack = () => Answer | null | Promise<Answer | null>;

/** Who asks. */
export interface Asker {
  readonly caller: Caller;
  readonly scope: Scope;
}

/**
 * What can change, and is therefore asked of MLflow each time. Where it does not answer, what it last said is given: at once, where
 * it was slow just now, so that a load of many questions waits for it once.
 */
export class Questions {
  readonly #options: QuestionsOptions;
  readonly #background = new SingleFlight<Answer>();

  constructor(options: QuestionsOptions) {
    this.#options = options;
  }

  /**
   * MLflow's answer, a 4xx of its own included; or an old one.
   * @throws SidecarError why MLflow did not answer, where there is nothing to give instead
   */
  async answer(
    read: Read,
    asker: Asker,
    lookBack: LookBack = () => this.#lookBack(read, asker),
  ): Promise<Answer> {
    const { kept, freshMs, watch, refreshWaitMs, clock } = this.#options;
    const fresh = kept.fresh(asker.scope, read.key, freshMs);
    if (fresh !== null) return fresh;
    const startedAt = clock.monotonic();
    const slow = watch.slowReason();
    if (slow !== null) {
      const old = await this.#old(read, asker, slow, lookBack);
      if (old !== null) {
        this.#askSoon(read, asker);
        return old;
      }
    }
    const failures: { last: SidecarError | null } = { last: null };
    const asked = this.#ask(read, asker, failures);
    try {
      const first = await within(refreshWaitMs, asked);
      if (first !== TOO_LATE) return first;
      const reason = this.#noAnswer(read, refreshWaitMs, failures.last);
      const old = slow === null ? await this.#old(read, asker, reason, lookBack) : null;
      if (old !== null) {
        if (refreshWaitMs >= TELLING_WAIT_MS) watch.missedWait(reason);
        return old;
      }
      const second = await within(PROXIED_MS - (clock.monotonic() - startedAt), asked);
      if (second !== TOO_LATE) return second;
      throw this.#noAnswer(read, PROXIED_MS, failures.last);
    } catch (error) {
      return await this.#instead(toSidecarError(error), read, asker, lookBack);
    }
  }

  async #instead(error: SidecarError, read: Read, asker: Asker, lookBack: LookBack): Promise<Answer> {
    const isOwn = asker.caller.authorization === null;
    if (error instanceof Refusal && !(isOwn && error.code === 'access_denied')) return passedOn(error);
    const old = await this.#old(read, asker, error, lookBack);
    if (old !== null) return old;
    if (error instanceof Refusal) return passedOn(error);
    throw error;
  }

  async #old(read: Read, { scope }: Asker, reason: SidecarError, lookBack: LookBack): Promise<Answer | null> {
    const { kept, maxStaleMs } = this.#options;
    // First what is there to be loaded: MLflow may have named a version since that is not.
    const found = (await lookBack()) ?? (await kept.last(scope, read.key, maxStaleMs));
    return found === null ? null : { ...found, stale: reason.code };
  }

  #lookBack(read: Read, { scope }: Asker): Answer | null {
    const refs = this.#options.cache.opened?.refs;
    return refs === undefined ? null : this.#options.lookback.answer(refs, scope, read);
  }

  /** So that it is seen when MLflow is back, or that it is not. */
  #askSoon(read: Read, asker: Asker): void {
    const key = `${asker.scope.id} ${read.key}`;
    this.#background.join(key, () => this.#ask(read, asker, { last: null })).catch(() => undefined);
  }

  /** With all the tries that a question has, whether somebody waits for it still or not. */
  #ask(read: Read, asker: Asker, failures: { last: SidecarError | null }): Promise<Answer> {
    const { servers, watch, cache, clock, stop } = this.#options;
    const refs = cache.opened?.refs ?? null;
    const order = refs?.nextOrder() ?? 0;
    let askedAt = 0;
    const call = {
      signal: stop,
      authorization: asker.caller.authorization,
      workspace: asker.caller.workspace,
      origin: null,
      onTry: () => {
        askedAt = clock.monotonic();
      },
      onTryFailed: (error: SidecarError) => {
        failures.last = error;
        watch.failed(error);
      },
      onAnswered: () => watch.answered(clock.monotonic() - askedAt),
    };
    const asked = servers[read.server].asks
      .ask(read.question, call)
      .then(json => this.#heard(json, read, asker, order));
    // Nobody may be waiting for it any more.
    asked.catch(() => undefined);
    return asked;
  }

  #heard({ status, text, body }: JsonAnswer, read: Read, { scope }: Asker, order: number): Answer {
    const { kept, interests, cache, clock } = this.#options;
    const answer = answered(text, status);
    if (status >= 400) kept.forget(scope, read.key);
    else {
      kept.keep(scope, read.key, answer);
      learn({ read, body, scope, order, now: clock.now() }, cache.opened?.refs ?? null, interests);
    }
    return answer;
  }

  #noAnswer({ server }: Read, waitedMs: number, last: SidecarError | null): SidecarError {
    const message = `MLflow at ${this.#options.servers[server].uri} did not answer within ${waitedMs / 1_000} s.`;
    if (last === null) {
      return new SidecarError('mlflow_timeout', message, {
        hint: 'Check its load, and what stands between it and here.',
      });
    }
    return new SidecarError(last.code, `${message} ${last.message}`, {
      hint: last.hint ?? undefined,
      cause: last,
    });
  }
}

function passedOn({ answer: { text, status, contentType } }: Refusal): Answer {
  return answered(text, status, contentType);
}
