import type { Caller } from '../domain/caller.ts';
import { type Clock, steady } from '../domain/clock.ts';
import { toSidecarError } from '../domain/errors.ts';
import type { EventBus, Fetched, Origin, Phases } from '../domain/events.ts';
import { formatModelUri, type ModelUri } from '../domain/model-uri.ts';
import type { Scope } from '../domain/scope.ts';
import { type ArtifactRoot, isSameVersion, versionKey } from '../domain/version.ts';
import type { Patience } from '../policy/patience.ts';
import type { RegistryCall } from '../registry/client.ts';
import type { Registry } from '../registry/registry.ts';
import type { Resolution } from '../registry/resolution.ts';
import { Vanished } from '../store/disk/vanished.ts';
import { type Published, rootOf } from '../store/records/ref-record.ts';
import type { Store } from '../store/store.ts';
import type { Failures, Fetcher } from './fetcher.ts';
import { PhaseTimer } from './phase-timer.ts';
import type { RegistryWatch } from './registry-watch.ts';
import { Run, type RunProgress, type RunResult } from './run.ts';
import { BASE_LIMIT_MS } from './run-limit.ts';

/** One wish, as the run behind it needs it. */
export interface Wish {
  readonly uri: ModelUri;
  readonly scope: Scope;
  readonly authorization: string | null;
  readonly force: boolean;
  /** Whose call it is that the run is begun for. */
  readonly caller: Caller;
}

/** A wish that is being worked on. */
interface Task {
  readonly wish: Wish;
  readonly origin: Origin;
  /** Aborts when the run is not wanted any more, or the process ends. */
  readonly signal: AbortSignal;
  readonly patience: Patience;
}

export interface PipelineOptions {
  readonly registry: Registry;
  readonly fetcher: Fetcher;
  readonly watch: RegistryWatch;
  readonly clock: Clock;
  readonly events: EventBus;
  /** Aborts when the process ends. */
  readonly stop: AbortSignal;
}

/** What a run does: resolve → have it? → fetch → publish. */
export class Pipeline {
  readonly #options: PipelineOptions;

  constructor(options: PipelineOptions) {
    this.#options = options;
  }

  /** @param before the run that asks the same question now */
  newRun(store: Store, wish: Wish, before: Run | null): Run {
    const run: Run = new Run(async (progress, stopped) => {
      const signal = AbortSignal.any([stopped, this.#options.stop]);
      const origin = { runId: run.id, modelUri: formatModelUri(wish.uri), caller: wish.caller };
      const event = () => ({
        origin,
        version: run.resolution?.version.version ?? null,
        phases: run.phases,
        fetched: run.fetched,
      });
      try {
        const until = this.#options.clock.monotonic() + BASE_LIMIT_MS;
        const patience = { until, waits: () => run.isPatient };
        const result = await this.#work(store, { wish, origin, signal, patience }, progress);
        this.#options.events.emitSoon({ type: 'run_finished', ...event(), status: result.status });
        return result;
      } catch (error) {
        const failure = toSidecarError(error);
        const ending = run.isStopped
          ? { type: 'run_stopped' as const }
          : { type: 'run_failed' as const, error: failure };
        this.#options.events.emitSoon({ ...event(), ...ending });
        throw failure;
      }
    }, before);
    return run;
  }

  async #work(store: Store, task: Task, progress: RunProgress): Promise<RunResult> {
    const { wish } = task;
    const order = store.refs.nextOrder();
    const call = this.#call(task, progress);
    const asked = store.refs.get(wish.scope, wish.uri).published?.snapshot;
    const first = askShown(store, wish);
    const resolution = await this.#resolve(store, wish, call, progress);
    const { version, fault, isGrowing } = resolution;
    const { published } = store.refs.get(wish.scope, wish.uri);
    const isSame = published !== null && isSameVersion(published.version, version);
    if (isSame && !wish.force && !isGrowing && !isInDoubt(store, wish, published)) {
      // What the disk was asked about may have been replaced by what it has on record.
      const shown = published.snapshot === asked ? first : first.then(() => askShown(store, wish));
      const isGiven = await this.#confirm(store, wish, { ...published, version }, order, shown);
      if (isGiven) return { status: 'unchanged', source: 'cache' };
    }
    if (fault !== null) throw fault;
    return await this.#obtain(store, { ...task, call }, resolution, order, progress);
  }

  /**
   * A disk that hangs does not hold up whoever only wants to know.
   * @returns false where the snapshot was found damaged meanwhile
   */
  async #confirm(
    store: Store,
    wish: Wish,
    published: Published,
    order: number,
    shown: ReturnType<typeof askShown>,
  ): Promise<boolean> {
    const { refs } = store;
    const now = steady(this.#options.clock);
    const isShown = await shown;
    if (isShown === false && !(await store.hasSnapshot(published.snapshot)))
      await refs.unpublish(wish.scope, wish.uri);
    else if (refs.withdrawn.has(published.snapshot)) return false;
    else if (isShown === false) await refs.publish(wish.scope, wish.uri, published, order, now);
    else refs.confirm(wish.scope, wish.uri, published.version, order, now);
    return refs.get(wish.scope, wish.uri).published !== null;
  }

  async #resolve(store: Store, wish: Wish, call: RegistryCall, progress: RunProgress): Promise<Resolution> {
    const { registry, clock } = this.#options;
    const timer = new PhaseTimer(clock);
    timer.begin('resolve');
    try {
      const resolution = await registry.resolve(wish.uri, call);
      store.refs.note(wish.scope, wish.uri, {
        resolved: { version: resolution.version.version, at: steady(clock) },
      });
      progress.resolved(resolution);
      return resolution;
    } catch (error) {
      this.#noteRefusal(store, wish, error);
      throw error;
    } finally {
      progress.took(timer.end());
    }
  }

  async #obtain(
    store: Store,
    { wish, origin, signal, patience, call }: Task & { readonly call: RegistryCall },
    resolution: Resolution,
    order: number,
    progress: RunProgress,
  ): Promise<RunResult> {
    const { registry, fetcher, clock } = this.#options;
    const { version, root } = resolution;
    const named = root ?? (await registry.locate(version, call));
    progress.needs(fetcher.breakersOf(named));
    const artifacts = await fetcher.withoutEmpty(named, call);
    const wanted = {
      ...wish,
      workspace: wish.caller.workspace,
      ...contentOf(resolution, artifacts),
      origin,
      patience,
      took: (phases: Phases) => progress.took(phases),
      brought: (amount: Fetched) => progress.fetched(amount),
      follow: (failures: Failures) => progress.follow(failures),
    };
    const publish = async () => {
      const { fetched, source, phases } = await fetcher.obtain(store, wanted, signal);
      progress.took(phases);
      const { snapshot, manifest } = fetched;
      const { digest, bytes, files } = manifest;
      const published = {
        version,
        snapshot,
        digest,
        files: files.length,
        bytes,
        root: artifacts,
        fetchedFor: wanted.root.version,
      };
      await store.refs.publish(wish.scope, wish.uri, published, order, steady(clock));
      return { status: 'loaded', source } as const;
    };
    return await publish().catch((error: unknown) => {
      // Another process collected it in between: it is fetched again.
      if (error instanceof Vanished) return publish();
      throw error;
    });
  }

  /** Since when, so that cached versions are not given for ever on a credential that was taken away. */
  #noteRefusal(store: Store, wish: Wish, error: unknown): void {
    const refused = toSidecarError(error).code === 'access_denied';
    const { published, refusedAt } = store.refs.get(wish.scope, wish.uri);
    if (!refused || published === null || refusedAt !== null) return;
    store.refs.note(wish.scope, wish.uri, { refusedAt: steady(this.#options.clock) });
  }

  #call({ wish, origin, signal, patience }: Task, progress: RunProgress): RegistryCall {
    const { watch, clock } = this.#options;
    let askedAt = 0;
    return {
      signal,
      authorization: wish.authorization,
      workspace: wish.caller.workspace,
      origin,
      patience,
      onAsk: breaker => progress.needs([breaker]),
      onTry: attempt => {
        askedAt = clock.monotonic();
        progress.tried(attempt);
      },
      onTryFailed: error => {
        // That it is left alone says nothing new about it.
        if (error.code !== 'circuit_open') watch.failed(error);
        progress.tryFailed(error);
      },
      onAnswered: () => watch.answered(clock.monotonic() - askedAt),
    };
  }
}

/** Whether its files were changed through the sidecar, or may have been. */
function isInDoubt(store: Store, { scope }: Wish, published: Published): boolean {
  const root = rootOf(published);
  return root !== null && store.doubts.has(scope, root);
}

/** As what the artifacts are fetched: a run that shows nothing but the model that it logged shows that model. */
function contentOf({ version, isGrowing, logged }: Resolution, root: ArtifactRoot) {
  const isLogged = logged?.fault === null && root.length === 1 && root[0] === logged.version.source;
  const shown = isLogged ? { version: logged.version, isGrowing: false } : { version, isGrowing };
  return { root: { root, version: versionKey(shown.version) }, isGrowing: shown.isGrowing };
}

/** Whether readers see what is published; the disk is asked while MLflow is. */
function askShown({ disk, refs }: Store, { scope, uri }: Wish) {
  return disk.ask(`shown ${scope.id} ${formatModelUri(uri)}`, () => refs.isShown(scope, uri));
}
