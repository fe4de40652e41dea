import { randomUUID } from 'node:crypto';
import { Arrivals } from '../artifacts/arrivals.ts';
import { fetchAll } from '../artifacts/fetch.ts';
import type { FetchOptions } from '../artifacts/fetch-options.ts';
import { PARTS } from '../artifacts/large.ts';
import { DownloadLimits } from '../artifacts/limits.ts';
import { type SourceOptions, selectSource } from '../artifacts/select.ts';
import { walk } from '../artifacts/walk.ts';
import type { Clock } from '../domain/clock.ts';
import { SidecarError } from '../domain/errors.ts';
import type { Fetched, Origin, Phases } from '../domain/events.ts';
import { type ManifestFile, manifestOf } from '../domain/manifest.ts';
import type { Scope } from '../domain/scope.ts';
import type { ArtifactRoot } from '../domain/version.ts';
import { untilAborted } from '../policy/abort.ts';
import type { Breaker } from '../policy/breaker.ts';
import type { FloorLimits } from '../policy/progress-floor.ts';
import { SharedWork } from '../policy/shared-work.ts';
import { SingleFlight } from '../policy/single-flight.ts';
import type { Reservation } from '../store/collect/reservations.ts';
import { Vanished } from '../store/disk/vanished.ts';
import type { Intake } from '../store/intake/intake.ts';
import type { Store } from '../store/store.ts';
import type { Call } from '../upstream/mlflow-client.ts';
import { type Arriving, ArrivingVersion, type Obtained } from './arriving.ts';
import { PhaseTimer } from './phase-timer.ts';

/** How long the fetch of one version may take, with or without callers. */
const BASE_LIMIT_MS = 30 * 60_000;
export const LONGEST_LIMIT_MS = 2 * 3_600_000;
const SLOWEST_BYTES_PER_MS = 5_000;

/** What is to be there in the end. */
export interface Wanted {
  readonly scope: Scope;
  readonly root: ArtifactRoot;
  readonly authorization: string | null;
  /** Another workspace than the configured one, as the scope has it. */
  readonly workspace?: string | undefined;
  /** Fetch and verify again what is cached. */
  readonly force: boolean;
  readonly origin: Origin;
  /** Told how long the phases took, also where one fails. */
  readonly took: (phases: Phases) => void;
  /** Told how much came, once for each download, however many share it. */
  readonly brought: (amount: Fetched) => void;
  /** Told what goes wrong with the download, which may have been begun for another. */
  readonly follow: (failures: Failures) => void;
}

/** Of one download, as far as it is. */
export interface Failures {
  last: SidecarError | null;
}

interface Download {
  readonly failures: Failures;
  readonly arriving: ArrivingVersion;
  readonly done: Promise<Obtained>;
}

/** Who is told how a download goes. */
type Told = Omit<Download, 'done'>;

export interface FetcherOptions extends SourceOptions {
  readonly floor: FloorLimits;
  readonly clock: Clock;
  /** Aborts when the process ends. */
  readonly stop: AbortSignal;
}

/** Brings versions into the store; equal wishes are one download, which goes on for as long as one of their runs does. */
export class Fetcher {
  readonly #options: FetcherOptions;
  readonly #downloads = new SharedWork<Obtained, Download>();
  readonly #blobs = new SingleFlight<Omit<ManifestFile, 'path'>>();
  readonly #arrivals = new Arrivals();
  readonly #limits = new DownloadLimits();

  constructor(options: FetcherOptions) {
    this.#options = options;
  }

  /** Of the servers that these files come from. */
  breakersOf(root: ArtifactRoot): readonly Breaker[] {
    try {
      return root.flatMap(part => selectSource(part, this.#options).breaker ?? []);
    } catch {
      // Whether that matters is for the fetch to say: the files may be in the store.
      return [];
    }
  }

  /**
   * The same root without the parts that hold nothing, so that a run's model is the model that it logged.
   * @throws SidecarError why a listing did not come
   */
  async withoutEmpty(root: ArtifactRoot, call: Call): Promise<ArtifactRoot> {
    const [first, ...others] = root;
    const [next, ...more] = others;
    if (next === undefined) return root;
    const isEmpty = (await selectSource(first, this.#options).list('', call)).length === 0;
    return isEmpty ? await this.withoutEmpty([next, ...more], call) : root;
  }

  /** @param stopped when the run is not wanted any more */
  async obtain(store: Store, wanted: Wanted, stopped: AbortSignal): Promise<Obtained> {
    const { work, wait } = this.#join(store, wanted);
    wanted.follow(work.failures);
    return await wait(stopped);
  }

  /** Joins the download of a version, or begins it; it goes on without whoever asked. */
  arrive(store: Store, wanted: Wanted): Arriving {
    // Whoever does not wait never leaves.
    const { work } = this.#join(store, wanted);
    wanted.follow(work.failures);
    return work.arriving;
  }

  #join(store: Store, wanted: Wanted) {
    const key = JSON.stringify([wanted.scope.id, wanted.root, wanted.force]);
    return this.#downloads.join(key, left => {
      const failures: Failures = { last: null };
      const arriving = new ArrivingVersion(store.layout, this.#options.clock, failures);
      const done = this.#download(store, wanted, { failures, arriving }, left);
      done.then(
        obtained => arriving.arrived(obtained),
        (error: unknown) => arriving.failed(error),
      );
      return { failures, arriving, done };
    });
  }

  async #download(store: Store, wanted: Wanted, told: Told, left: AbortSignal): Promise<Obtained> {
    const found = wanted.force ? null : await store.find(wanted.scope, wanted.root);
    if (found !== null) return { fetched: found, source: 'cache', phases: {} };
    return await this.#fetch(store, wanted, told, left).catch((error: unknown) => {
      if (error instanceof Vanished) return this.#fetch(store, wanted, told, left);
      throw error;
    });
  }

  async #fetch(
    store: Store,
    wanted: Wanted,
    { failures, arriving }: Told,
    left: AbortSignal,
  ): Promise<Obtained> {
    const intake = await store.intake();
    const limit = new RunLimit(this.#options.clock, [this.#options.stop, left]);
    const timer = new PhaseTimer(this.#options.clock);
    const { authorization, workspace, origin } = wanted;
    const onTryFailed = (error: SidecarError) => {
      failures.last = error;
    };
    const together = randomUUID();
    const call = { signal: limit.signal, authorization, workspace, origin, together, onTryFailed };
    let room: Promise<Reservation> | null = null;
    try {
      timer.begin('list');
      const files = await walk(
        wanted.root.map(root => selectSource(root, this.#options)),
        call,
      );
      arriving.lists(files, intake);
      const bytes = files.reduce((sum, file) => sum + (file.size ?? 0), 0);
      limit.extendFor(bytes);
      timer.begin('fetch');
      room = store.reserve(bytes);
      const share = this.#limits.forRun();
      const within = withinRoom(intake, await untilAborted(room, limit.signal));
      const shared = {
        ...this.#options,
        ...share,
        parts: PARTS,
        flight: this.#blobs,
        arrivals: this.#arrivals,
      };
      const own = { intake: within, follower: arriving, scope: wanted.scope.id, force: wanted.force };
      const fetched = await fetchAll(files, { ...shared, ...own }, call);
      timer.begin('publish');
      const manifest = manifestOf(fetched);
      wanted.brought({ files: manifest.files.length, bytes: manifest.bytes });
      const committed = await store.commit(wanted.scope, wanted.root, manifest, intake);
      return { fetched: committed, source: 'mlflow', phases: timer.end() };
    } finally {
      wanted.took(timer.end());
      limit.dispose();
      await intake.close();
      // Also where it is given only after the run was ended.
      room?.then(
        given => given.release(),
        () => undefined,
      );
    }
  }
}

/** Bodies of unknown size ask for room as they come. */
function withinRoom(intake: Intake, room: Reservation): FetchOptions['intake'] {
  return {
    take: (body, size) => intake.take(size === null ? room.metered(body) : body, size),
    takeBytes: bytes => intake.takeBytes(bytes),
    partial: (key, fresh) => intake.partial(key, fresh),
    share: blob => intake.share(blob),
  };
}

/** Ends a fetch that takes too long, or that is not wanted any more. */
class RunLimit {
  readonly #controller = new AbortController();
  readonly #clock: Clock;
  readonly #startedAt: number;
  #timer: NodeJS.Timeout;
  readonly signal: AbortSignal;

  constructor(clock: Clock, stops: readonly AbortSignal[]) {
    this.#clock = clock;
    this.#startedAt = clock.monotonic();
    this.signal = AbortSignal.any([this.#controller.signal, ...stops]);
    this.#timer = this.#arm(BASE_LIMIT_MS);
  }

  /** Once the size is known. */
  extendFor(bytes: number): void {
    const limit = Math.min(LONGEST_LIMIT_MS, BASE_LIMIT_MS + bytes / SLOWEST_BYTES_PER_MS);
    clearTimeout(this.#timer);
    this.#timer = this.#arm(limit);
  }

  dispose(): void {
    clearTimeout(this.#timer);
  }

  #arm(limitMs: number): NodeJS.Timeout {
    const over = () =>
      this.#controller.abort(
        new SidecarError(
          'artifact_timeout',
          `The version was not there after ${Math.round(limitMs / 60_000)} min.`,
        ),
      );
    return setTimeout(over, limitMs - (this.#clock.monotonic() - this.#startedAt));
  }
}
