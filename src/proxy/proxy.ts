import type { Caller } from '../domain/caller.ts';
import type { EventBus, ProxySource } from '../domain/events.ts';
import type { Scope } from '../domain/scope.ts';
import { within } from '../policy/abort.ts';
import type { RegistryWatch } from '../reload/registry-watch.ts';
import type { Cache } from '../store/cache.ts';
import type { Addresses } from './addresses.ts';
import type { Allowed } from './allowed.ts';
import { type Answer, answered } from './answer.ts';
import type { Artifacts } from './artifacts.ts';
import type { Asker } from './asker.ts';
import { type Effect, isWrite } from './effect.ts';
import type { KeptAnswers } from './kept-answers.ts';
import type { FileRequest, Opened } from './opened.ts';
import type { Plain, PlainPath } from './plain.ts';
import type { Questions } from './questions.ts';
import type { Read } from './reads.ts';
import type { Relay, RelayedAnswer } from './relay.ts';
import type { RelayRequest } from './relay-request.ts';

export interface ProxyOptions {
  readonly questions: Questions;
  readonly addresses: Addresses;
  readonly artifacts: Artifacts;
  readonly plain: Plain;
  readonly relay: Relay;
  readonly kept: KeptAnswers;
  readonly allowed: Allowed;
  readonly watches: Readonly<Record<Read['server'], RegistryWatch>>;
  readonly cache: Cache;
  readonly events: EventBus;
  readonly scope: (caller: Caller) => Scope;
  /** Whether the sidecar has a credential of its own, which reads go with then. */
  readonly hasCredential: boolean;
}

/** For what is cached of a file that a client changed to be noted. */
const CHANGED_MS = 1_000;

/** What MLflow's own clients get from the sidecar. */
export class MlflowProxy {
  readonly #options: ProxyOptions;

  constructor(options: ProxyOptions) {
    this.#options = options;
  }

  /**
   * @param self the sidecar's address as the caller reached it
   * @throws SidecarError why there is no answer
   */
  async read(read: Read, caller: Caller, self: string): Promise<Answer> {
    const { questions, addresses, allowed, cache } = this.#options;
    const asker = this.#asker(caller);
    allowed.assertRead(read, asker.scope, cache.opened?.refs ?? null);
    switch (read.route) {
      case 'model-versions/get-download-uri':
        return this.#told(read.route, asker, await addresses.answer(read, asker, self));
      case 'server-info':
        return this.#told(read.route, asker, withoutDetours(await questions.answer(read, asker, leastInfo)));
      default:
        return this.#told(read.route, asker, await questions.answer(read, asker));
    }
  }

  /** @throws SidecarError why there is no answer */
  async list(segments: readonly string[], caller: Caller): Promise<Answer> {
    const asker = this.#asker(caller);
    return this.#told('artifacts', asker, await this.#options.artifacts.list(segments, asker));
  }

  /** @throws SidecarError why it cannot be had */
  async open(request: FileRequest, caller: Caller): Promise<Opened> {
    const opened = await this.#options.artifacts.open(request, this.#asker(caller));
    this.#tell('file', caller, ...sourceOf(opened));
    return opened;
  }

  /** @throws SidecarError why there is no answer */
  async plain(path: PlainPath, caller: Caller): Promise<Answer> {
    const asker = this.#asker(caller);
    return this.#told(path, asker, await this.#options.plain.answer(path, asker));
  }

  /**
   * Everything else, as it is, and with the caller's own credential alone.
   * @param artifact the decoded path of the artifact that it may change; null where it is for none
   * @throws SidecarError why there is no answer
   */
  async relay(
    request: RelayRequest,
    caller: Caller,
    artifact: readonly string[] | null,
  ): Promise<RelayedAnswer> {
    const { relay, watches } = this.#options;
    const known: { effect: Effect } = { effect: 'none' };
    const onEffect = (effect: Effect) => {
      known.effect = effect;
    };
    try {
      const answer = await relay.send({ ...request, onEffect });
      // It answers, and whoever changes something is to read that, and not what was true before.
      if (known.effect === 'done') watches[request.kind].answered(0);
      this.#tell('relay', caller, 'passed', null);
      return answer;
    } finally {
      if (known.effect !== 'none' && isWrite(request.method, request.url.pathname))
        await this.#changed(artifact, caller, known.effect === 'done');
    }
  }

  /**
   * What is cached is of before a change.
   * @param isDone whether MLflow took it: else it concerns whoever sent it alone
   */
  async #changed(artifact: readonly string[] | null, caller: Caller, isDone: boolean): Promise<void> {
    const { kept, artifacts, scope } = this.#options;
    const own = scope(caller);
    kept.expire(isDone ? null : own);
    if (artifact === null) return;
    const change = { path: artifact.join('/'), scope: isDone ? null : own };
    // A disk that fails, or hangs, keeps nobody's answer.
    const noted = artifacts.changed(change, isDone ? this.#asker(caller).scope : own);
    await within(CHANGED_MS, noted).catch(() => undefined);
  }

  #told(what: string, { caller }: Asker, answer: Answer): Answer {
    this.#tell(what, caller, answer.source, answer.stale);
    return answer;
  }

  #tell(what: string, caller: Caller, source: ProxySource, stale: Answer['stale']): void {
    this.#options.events.emit({ type: 'proxied', caller, what, source, stale });
  }

  #asker(caller: Caller): Asker {
    const { hasCredential, scope } = this.#options;
    const asking = hasCredential ? { ...caller, authorization: null } : caller;
    return { caller: asking, scope: scope(asking) };
  }
}

function sourceOf(opened: Opened): readonly [ProxySource, Answer['stale']] {
  switch (opened.kind) {
    case 'stored':
      return ['store', opened.stale];
    case 'arriving':
      return ['download', null];
    case 'passed':
      return ['passed', null];
    case 'answer':
      return [opened.answer.source, opened.answer.stale];
  }
}

/** A server of which nothing is known has nothing of what it could have. */
function leastInfo(): Answer {
  return { ...answered('{}'), source: 'kept', ageS: 0 };
}

/** Downloads in parts go to where the bytes are, past the sidecar. */
function withoutDetours(answer: Answer): Answer {
  if (answer.status !== 200) return answer;
  const info: unknown = JSON.parse(answer.text);
  const known = typeof info === 'object' && info !== null ? info : {};
  return { ...answer, text: JSON.stringify({ ...known, multipart_downloads_enabled: false }) };
}
