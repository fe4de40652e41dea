import type { Caller } from '../domain/caller.ts';
import { type Clock, steady } from '../domain/clock.ts';
import { type SidecarError, toSidecarError } from '../domain/errors.ts';
import type { EventBus } from '../domain/events.ts';
import { formatModelUri, type ModelUri } from '../domain/model-uri.ts';
import { type Outcome, worstBreaker } from '../domain/outcome.ts';
import { type Scope, scopeOfCaller } from '../domain/scope.ts';
import { TOO_LATE, within } from '../policy/abort.ts';
import type { Breaker } from '../policy/breaker.ts';
import type { Ref } from '../store/records/ref-record.ts';
import type { Store } from '../store/store.ts';
import type { HealthProbe } from '../upstream/health.ts';
import type { Reloader, ReloadRequest, WorkState } from './api.ts';
import { type Case, deadlineExceeded, fallbackOf, judge, late, noAnswer, stale } from './case.ts';
import { toOutcome } from './outcome.ts';
import type { Pipeline } from './pipeline.ts';
import { type RegistryWatch, TELLING_WAIT_MS } from './registry-watch.ts';
import type { Run } from './run.ts';
import { Runs } from './runs.ts';
import type { Verdict } from './verdict.ts';

/** Credentials that are remembered, so that they need not be hashed for each call. */
const MOST_SCOPES = 100;

/** Who is asked what a URI means. */
export interface AskedServer {
  readonly breaker: Breaker;
  readonly health: HealthProbe;
  readonly asks: { readonly waiting: number };
}

export interface ReloaderOptions {
  readonly pipeline: Pipeline;
  readonly watch: RegistryWatch;
  readonly servers: { readonly registry: AskedServer; readonly tracking: AskedServer };
  /** @throws SidecarError while the cache directory does not work */
  readonly store: () => Store;
  readonly registryUri: string;
  readonly mlflowUri: string;
  readonly workspace: string | null;
  readonly clock: Clock;
  readonly events: EventBus;
}

/** How a call's deadline is spent. */
export class DeadlineReloader implements Reloader {
  readonly #options: ReloaderOptions;
  readonly #runs = new Runs();
  readonly #scopes = new Map<string, Scope>();
  #calls = 0;

  constructor(options: ReloaderOptions) {
    this.#options = options;
  }

  /** Of the credential that asks. */
  scope(caller: Caller): Scope {
    const key = `${caller.workspace ?? ''} ${caller.authorization ?? ''}`;
    const known = this.#scopes.get(key);
    if (known !== undefined) return known;
    if (this.#scopes.size >= MOST_SCOPES) this.#scopes.clear();
    const scope = scopeOfCaller(this.#options, caller);
    this.#scopes.set(key, scope);
    return scope;
  }

  work(): WorkState {
    const { registry, tracking } = this.#options.servers;
    const questions = [...new Set([registry.asks, tracking.asks])].reduce(
      (sum, asks) => sum + asks.waiting,
      0,
    );
    return { calls: this.#calls, runs: this.#runs.inFlight, joined: this.#runs.joined, questions };
  }

  async reload(request: ReloadRequest): Promise<Outcome> {
    this.#calls++;
    try {
      const store = this.#options.store();
      const c = await this.#open(store, request);
      const verdict = await this.#verdict(c);
      if (!this.#isTakenAway(verdict, c, store)) return this.#answer(request, verdict, c, store);
      const anew = await this.#open(store, request);
      return this.#answer(request, await this.#verdict(anew), anew, store);
    } catch (error) {
      return this.refuse(request, toSidecarError(error));
    } finally {
      this.#calls--;
    }
  }

  refuse(request: ReloadRequest, error: SidecarError): Outcome {
    return this.#answer(request, { kind: 'failed', error, wanted: null, refreshing: false }, null, null);
  }

  async #verdict(c: Case): Promise<Verdict> {
    // Its own run would be refused, once it had waited for the one before.
    const { hasAnswered } = this.#serverOf(c.request.uri).breaker;
    const waits = hasAnswered && !c.fallback.usable;
    if (c.refused !== null && c.run.isWaiting && !waits) return judge(c.refused, c);
    return c.fallback.usable ? await this.#refresh(c) : await this.#obtain(c);
  }

  async #open(store: Store, request: ReloadRequest): Promise<Case> {
    const scope = this.scope(request.caller);
    // Before its run begins, which may be the trial.
    const refused = this.#serverOf(request.uri).breaker.refusal();
    // The disk is asked while MLflow is.
    const existing = this.#existing(store, scope, request).then(before => {
      const fallback = fallbackOf(before, scope, request.maxStaleMs, steady(this.#options.clock));
      return { before, fallback };
    });
    const hasNothing = existing.then(({ fallback }) => !fallback.usable);
    const run = this.#join(store, request, hasNothing);
    leaveWith(run, request.unwanted);
    const { before, fallback } = await existing;
    return { request, scope, before, fallback, run, refused };
  }

  /** What was published when the call came, or by its run, may be found damaged before the answer is out. */
  #isTakenAway(verdict: Verdict, { scope, request }: Case, store: Store): boolean {
    return isGiving(verdict) && store.refs.get(scope, request.uri).published === null;
  }

  /** Has a ref of the sidecar's own fetched, as a call for it would, for whoever asks next. @param force also what is there */
  async renew(uri: ModelUri, caller: Caller, force = false): Promise<void> {
    await this.#join(this.#options.store(), { uri, caller, force }).done;
  }

  #join(
    store: Store,
    { uri, caller, force }: Pick<ReloadRequest, 'uri' | 'caller' | 'force'>,
    hasNothing?: Promise<boolean>,
  ): Run {
    const scope = this.scope(caller);
    const wish = { uri, scope, authorization: caller.authorization, force, caller };
    const key = JSON.stringify([scope.id, formatModelUri(uri), force]);
    return this.#runs.join(key, asked => this.#options.pipeline.newRun(store, wish, asked), hasNothing);
  }

  /** The ref, without a snapshot that somebody removed, and with what only the disk knows of. */
  async #existing(store: Store, scope: Scope, { uri }: ReloadRequest): Promise<Ref> {
    const ref = store.refs.get(scope, uri);
    const { published } = ref;
    if (published === null) {
      const recall = () =>
        store.refs.recall(scope, uri).then(
          () => true,
          () => false,
        );
      await store.disk.ask(`recall ${scope.id} ${formatModelUri(uri)}`, recall);
      return store.refs.get(scope, uri);
    }
    const there = await store.disk.ask(published.snapshot, () => store.hasSnapshot(published.snapshot));
    if (there !== false) return ref;
    const unpublish = () => store.refs.unpublish(scope, uri).then(() => true);
    await store.disk.ask(`gone ${published.snapshot}`, unpublish);
    return store.refs.get(scope, uri);
  }

  /** Nothing usable: all of it within the deadline. */
  async #obtain(c: Case): Promise<Verdict> {
    try {
      const result = await within(this.#msUntil(c.request.deadlineAt), c.run.done);
      return result === TOO_LATE ? late(c) : { kind: 'given', ...result };
    } catch (error) {
      return judge(toSidecarError(error), c);
    }
  }

  /** A usable snapshot: MLflow has a short while to say which version is wanted, and that one the whole deadline. */
  async #refresh(c: Case): Promise<Verdict> {
    const { watch } = this.#options;
    // The pre-warming has time, and is to know what MLflow says.
    const slow = c.request.caller.prewarm === undefined ? watch.slowReason() : null;
    if (slow !== null) return stale(slow, c);
    try {
      const { uri, startedAt, refreshWaitMs, deadlineAt } = c.request;
      const { health } = this.#serverOf(uri);
      const waitUntil = Math.min(startedAt + refreshWaitMs, deadlineAt);
      const resolution = await within(this.#msUntil(waitUntil), c.run.resolved);
      if (resolution === TOO_LATE) {
        const reason = noAnswer(c, this.#options.registryUri, waitUntil - startedAt, health.words());
        if (waitUntil - startedAt >= TELLING_WAIT_MS) watch.missedWait(reason);
        return stale(reason, c);
      }
      const result = await within(this.#msUntil(deadlineAt), c.run.done);
      return result === TOO_LATE ? stale(deadlineExceeded(c), c) : { kind: 'given', ...result };
    } catch (error) {
      return judge(toSidecarError(error), c);
    }
  }

  #serverOf({ kind }: ModelUri): AskedServer {
    const { registry, tracking } = this.#options.servers;
    return kind === 'run' || kind === 'logged_model' ? tracking : registry;
  }

  #msUntil(moment: number): number {
    return moment - this.#options.clock.monotonic();
  }

  #answer(request: ReloadRequest, verdict: Verdict, c: Case | null, store: Store | null): Outcome {
    const { clock, events, mlflowUri } = this.#options;
    const scope = c?.scope ?? this.scope(request.caller);
    const after = store === null ? null : store.refs.get(scope, request.uri);
    if (isGiving(verdict) && after?.published)
      store?.usage.given(after.published.snapshot, verdict.kind === 'given' || store.disk.isHanging);
    const durationMs = clock.monotonic() - request.startedAt;
    const attempts = c?.run.attempts ?? 0;
    const ofRun = verdict.kind === 'given' && verdict.source === 'cache' ? [] : (c?.run.breakers ?? []);
    const needed = [this.#serverOf(request.uri).breaker, ...ofRun];
    const account = {
      request,
      scope,
      mlflowUri,
      before: c?.before ?? null,
      after,
      attempts,
      durationMs,
      breaker: worstBreaker(needed.map(({ state }) => state)),
      now: steady(clock),
    };
    const outcome = toOutcome(verdict, account, store?.layout ?? null);
    if (request.unwanted?.aborted === true) return outcome;
    events.emitSoon({
      type: 'reload_finished',
      caller: request.caller,
      outcome,
      runId: c?.run.id ?? null,
      phases: c?.run.phases ?? {},
    });
    return outcome;
  }
}

function isGiving({ kind }: Verdict): boolean {
  return kind === 'given' || kind === 'stale';
}

function leaveWith(run: Run, unwanted: AbortSignal | undefined): void {
  const leave = () => run.leave();
  if (unwanted?.aborted === true) leave();
  unwanted?.addEventListener('abort', leave, { once: true });
  // A job is kept for a day; what its run held is not.
  const forget = () => unwanted?.removeEventListener('abort', leave);
  run.done.then(forget, forget);
}
