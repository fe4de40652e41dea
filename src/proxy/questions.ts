import { type Clock, steady } from '../domain/clock.ts';
import { SidecarError, toSidecarError } from '../domain/errors.ts';
import { TOO_LATE, within } from '../policy/abort.ts';
import type { Patience } from '../policy/patience.ts';
import type { FloorLimits } from '../policy/progress-floor.ts';
import { SingleFlight } from '../policy/single-flight.ts';
import type { RegistryClient } from '../registry/client.ts';
import { type RegistryWatch, TELLING_WAIT_MS } from '../reload/registry-watch.ts';
import type { Cache } from '../store/cache.ts';
import { Refusal } from '../upstream/failure.ts';
import type { JsonAnswer } from '../upstream/json.ts';
import type { PassingAnswer } from '../upstream/passing-answer.ts';
import { type Answer, answered } from './answer.ts';
import type { Asker } from './asker.ts';
import type { Interests } from './interests.ts';
import type { KeptAnswers } from './kept-answers.ts';
import { learn } from './learn.ts';
import type { Lookback } from './lookback.ts';
import { assertAnswers } from './matching.ts';
import type { LookBack, OldAnswers } from './old-answers.ts';
import { passedOn } from './passing.ts';
import type { Read } from './reads.ts';

/** Of a registry's answer; an unmodified client has no deadline of its own. */
export const PROXIED_MS = 8_000;

/** What a load asks of runs and logged models: with metric curves it is long, and of it only `info` is read. */
const OF_LOADS: ReadonlySet<Read['route']> = new Set<Read['route']>([
  'runs/get',
  'logged-models/*',
  'logged-models/search',
]);

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
  /** Of an answer that passes on. */
  readonly floor: FloorLimits;
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
    const waits = async (failure: SidecarError) => (await old.find(read, asker, failure, lookBack)) === null;
    const asked = this.#ask(read, asker, failures, { until: startedAt + limitMs, waits });
    try {
      const first = await within(refreshWaitMs, asked);
      if (first !== TOO_LATE) return first;
      const reason = this.#noAnswer(read, refreshWaitMs, failures.last);
      const instead = slow === null ? await old.find(read, asker, reason, lookBack) : null;
      if (instead !== null) {
        if (refreshWaitMs >= TELLING_WAIT_MS) watch.missedWait(reason);
        closeUntaken(asked);
        return instead;
      }
      const second = await within(limitMs - (clock.monotonic() - startedAt), asked);
      if (second !== TOO_LATE) return second;
      throw this.#noAnswer(read, limitMs, failures.last);
    } catch (error) {
      closeUntaken(asked);
      return await this.#instead(toSidecarError(error), read, asker, lookBack);
    }
  }

  async #instead(error: SidecarError, read: Read, asker: Asker, lookBack: LookBack): Promise<Answer> {
    const { old, kept, cache } = this.#options;
    const isOwn = asker.caller.authorization === null;
    if (error instanceof Refusal && !(isOwn && error.code === 'access_denied')) {
      kept.deny(asker.scope, read.key);
      return refusedBy(error);
    }
    if (error.code === 'access_denied') old.refused(read, asker, cache.opened?.refs ?? null);
    const instead = await old.find(read, asker, error, lookBack);
    if (instead !== null) return instead;
    if (error instanceof Refusal) return refusedBy(error);
    throw error;
  }

  #lookBack(read: Read, { scope }: Asker): Answer | null {
    const refs = this.#options.cache.opened?.refs;
    return refs === undefined ? null : this.#options.lookback.answer(refs, scope, read);
  }

  /** So that it is seen when MLflow is back, or that it is not. */
  #askSoon(read: Read, asker: Asker): void {
    const key = `${asker.scope.id} ${read.key}`;
    closeUntaken(this.#background.join(key, () => this.#ask(read, asker, { last: null })));
  }

  /** With all the tries that a question has, whether somebody waits for it still or not. */
  #ask(
    read: Read,
    asker: Asker,
    failures: { last: SidecarError | null },
    patience?: Patience,
  ): Promise<Answer> {
    const { servers, cache, clock, stop } = this.#options;
    const { asks, watch } = servers[read.server];
    const refs = cache.opened?.refs ?? null;
    const order = refs?.nextOrder() ?? 0;
    const since = steady(clock);
    let askedAt = 0;
    const call = {
      signal: stop,
      authorization: asker.caller.authorization,
      workspace: asker.caller.workspace,
      origin: null,
      patience,
      onTry: () => {
        askedAt = clock.monotonic();
      },
      onTryFailed: (error: SidecarError) => {
        failures.last = error;
        if (error.code !== 'circuit_open') watch.failed(error);
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

  #heard({ status, text, body, passing }: JsonAnswer, put: Put): Answer {
    const { kept, old } = this.#options;
    const { read, asker, since } = put;
    if (status < 400 && passing === undefined) assertAnswers(read, body);
    old.taken(asker);
    if (passing !== undefined) return this.#passing(passing, status, put);
    const answer = answered(text ?? '', status);
    if (status >= 400) kept.deny(asker.scope, read.key);
    else {
      kept.keep(asker.scope, read, answer, since);
      this.#learn(body, put);
    }
    return answer;
  }

  /** Too long to be kept. What was picked of it is an answer as well, where it leaves out only what no load needs. */
  #passing(passing: PassingAnswer, status: number, put: Put): Answer {
    const { kept, floor, clock } = this.#options;
    const { read, asker, since } = put;
    if (!OF_LOADS.has(read.route)) kept.forget(asker.scope, read.key);
    passing.whenWhole(picked => {
      // What it throws cuts the answer before its end.
      assertAnswers(read, picked);
      if (OF_LOADS.has(read.route)) kept.keep(asker.scope, read, answered(JSON.stringify(picked)), since);
      this.#learn(picked, put);
    });
    return { ...answered('', status), passing: passedOn(passing, floor, clock) };
  }

  #learn(body: unknown, { read, asker, order }: Put): void {
    const { interests, cache, clock } = this.#options;
    learn(
      { read, body, scope: asker.scope, order, now: steady(clock) },
      cache.opened?.refs ?? null,
      interests,
    );
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

/** Nobody takes it any more; where it passes on, its connection is freed. */
function closeUntaken(asked: Promise<Answer>): void {
  asked.then(
    ({ passing }) => passing?.close(),
    () => undefined,
  );
}

function refusedBy({ answer: { text, status, contentType } }: Refusal): Answer {
  return answered(text, status, contentType);
}
