import type { Clock } from '../domain/clock.ts';
import { SidecarError, toSidecarError } from '../domain/errors.ts';
import { TOO_LATE, within } from '../policy/abort.ts';
import { SingleFlight } from '../policy/single-flight.ts';
import type { RegistryClient } from '../registry/client.ts';
import { type RegistryWatch, TELLING_WAIT_MS } from '../reload/registry-watch.ts';
import type { Cache } from '../store/cache.ts';
import { Refusal } from '../upstream/failure.ts';
import type { JsonAnswer } from '../upstream/json.ts';
import { type Answer, answered } from './answer.ts';
import type { Asker } from './asker.ts';
import type { Interests } from './interests.ts';
import type { KeptAnswers } from './kept-answers.ts';
import { learn } from './learn.ts';
import type { Lookback } from './lookback.ts';
import { assertAnswers } from './matching.ts';
import type { LookBack, OldAnswers } from './old-answers.ts';
import type { Read } from './reads.ts';

/** Of a registry's answer; an unmodified client has no deadline of its own. */
export const PROXIED_MS = 8_000;

/** One that is asked: what it answers says nothing of the others. */
interface AskedServer {
  readonly asks: Pick<RegistryClient, 'ask'>;
  readonly uri: string;
  readonly watch: RegistryWatch;
  /** Within which a client learns that there is nothing to give. */
  readonly limitMs: number;
}

export interface QuestionsOptions {
  readonly servers: Readonly<Record<Read['server'], AskedServer>>;
  readonly cache: Cache;
  readonly kept: KeptAnswers;
  readonly old: OldAnswers;
  readonly lookback: Lookback;
  readonly interests: Interests;
  readonly refreshWaitMs: number;
  readonly freshMs: number;
  readonly clock: Clock;
  /** Aborts when the process ends. */
  readonly stop: AbortSignal;
}

/** A question that was put to MLflow. */
interface Put {
  readonly read: Read;
  readonly asker: Asker;
  /** See Refs. */
  readonly order: number;
  /** Milliseconds since 1970. */
  readonly since: number;
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
    const { kept, old, freshMs, refreshWaitMs, clock } = this.#options;
    const fresh = kept.fresh(asker.scope, read.key, freshMs);
    if (fresh !== null) return fresh;
    const startedAt = clock.monotonic();
    const { watch, limitMs } = this.#options.servers[read.server];
    const slow = watch.slowReason();
    if (slow !== null) {
      const atOnce = await old.find(read, asker, slow, lookBack);
      if (atOnce !== null) {
        this.#askSoon(read, asker);
        return atOnce;
      }
    }
    const failures: { last: SidecarError | null } = { last: null };
    const asked = this.#ask(read, asker, failures);
    try {
      const first = await within(refreshWaitMs, asked);
      if (first !== TOO_LATE) return first;
      const reason = this.#noAnswer(read, refreshWaitMs, failures.last);
      const instead = slow === null ? await old.find(read, asker, reason, lookBack) : null;
      if (instead !== null) {
        if (refreshWaitMs >= TELLING_WAIT_MS) watch.missedWait(reason);
        return instead;
      }
      const second = await within(limitMs - (clock.monotonic() - startedAt), asked);
      if (second !== TOO_LATE) return second;
      throw this.#noAnswer(read, limitMs, failures.last);
    } catch (error) {
      return await this.#instead(toSidecarError(error), read, asker, lookBack);
    }
  }

  async #instead(error: SidecarError, read: Read, asker: Asker, lookBack: LookBack): Promise<Answer> {
    const { old, kept, cache } = this.#options;
    const isOwn = asker.caller.authorization === null;
    if (error instanceof Refusal && !(isOwn && error.code === 'access_denied')) {
      kept.deny(asker.scope, read.key);
      return passedOn(error);
    }
    if (error.code === 'access_denied') old.refused(read, asker, cache.opened?.refs ?? null);
    const instead = await old.find(read, asker, error, lookBack);
    if (instead !== null) return instead;
    if (error instanceof Refusal) return passedOn(error);
    throw error;
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
    const { servers, cache, clock, stop } = this.#options;
    const { asks, watch } = servers[read.server];
    const refs = cache.opened?.refs ?? null;
    const order = refs?.nextOrder() ?? 0;
    const since = clock.now();
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
    const asked = asks
      .ask(read.question, call)
      .then(json => this.#heard(json, { read, asker, order, since }));
    // Nobody may be waiting for it any more.
    asked.catch(() => undefined);
    return asked;
  }

  #heard({ status, text, body }: JsonAnswer, { read, asker, order, since }: Put): Answer {
    const { kept, old, interests, cache, clock } = this.#options;
    const { scope } = asker;
    if (status < 400) assertAnswers(read, body);
    const answer = answered(text, status);
    old.taken(asker);
    if (status >= 400) kept.deny(scope, read.key);
    else {
      kept.keep(scope, read, answer, since);
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
