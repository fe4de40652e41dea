import { randomUUID } from 'node:crypto';
import { Arrivals } from '../artifacts/arrivals.ts';
import { fetchAll } from '../artifacts/fetch.ts';
import type { FetchOptions } from '../artifacts/fetch-options.ts';
import { PARTS } from '../artifacts/large.ts';
import { DownloadLimits } from '../artifacts/limits.ts';
import { type SourceOptions, selectSource } from '../artifacts/select.ts';
import { walk } from '../artifacts/walk.ts';
import type { Clock } from '../domain/clock.ts';
import type { SidecarError } from '../domain/errors.ts';
import type { Fetched, Origin, Phases } from '../domain/events.ts';
import { type ManifestFile, manifestInSteps } from '../domain/manifest.ts';
import type { Scope } from '../domain/scope.ts';
import type { ArtifactRoot, VersionRoot } from '../domain/version.ts';
import { untilAborted } from '../policy/abort.ts';
import type { Breaker } from '../policy/breaker.ts';
import type { Patience } from '../policy/patience.ts';
import type { FloorLimits } from '../policy/progress-floor.ts';
import { SharedWork } from '../policy/shared-work.ts';
import { SingleFlight } from '../policy/single-flight.ts';
import { inSlices } from '../policy/slices.ts';
import type { Reservation } from '../store/collect/reservations.ts';
import { Vanished } from '../store/disk/vanished.ts';
import type { Intake } from '../store/intake/intake.ts';
import type { Fetching } from '../store/records/doubts.ts';
import type { Store } from '../store/store.ts';
import type { Call } from '../upstream/mlflow-client.ts';
import { type Arriving, ArrivingVersion, type Obtained } from './arriving.ts';
import { PhaseTimer } from './phase-timer.ts';
import { RunLimit } from './run-limit.ts';

/** What is to be there in the end. */
export interface Wanted {
  readonly scope: Scope;
  readonly root: VersionRoot;
  /** Whether files of it may still come or go: then each run looks for itself, and nothing is taken from another. */
  readonly isGrowing: boolean;
  readonly authorization: string | null;
  /** Another workspace than the configured one, as the scope has it. */
  readonly workspace?: string | undefined;
  /** Fetch and verify again what is cached. */
  readonly force: boolean;
  readonly origin: Origin;
  /** How long an outage is waited for; the download waits as long as the most patient one of those who share it. */
  readonly patience?: Patience;
  /** Told how long the phases took, also where one fails. */
  readonly took: (phases: Phases) => void;
  /** Told how much came, once for each download, however many share it. */
  readonly brought: (amount: Fetched) => void;
  /** Told what goes wrong with the download, which may have been begun for another. */
  readonly follow: (failures: Failures) => void;
}

/** With what tells it from other downloads of the same root. */
type Edition = Wanted & { readonly edition: string };

/** Of one download, as far as it is. */
export interface Failures {
  last: SidecarError | null;
}

interface Download {
  readonly failures: Failures;
  readonly patience: Set<Patience>;
  readonly arriving: ArrivingVersion;
  readonly fetching: Fetching;
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
    const { scope, root, isGrowing, force } = wanted;
    const edition = isGrowing ? randomUUID() : root.version;
    const share = this.#downloads.join(
      JSON.stringify([scope.id, root.root, edition, force]),
      left => this.#begin(store, { ...wanted, edition }, left),
      // Whoever changed something reads that, and not what was on its way before.
      ({ fetching }) => !fetching.isOutdated,
    );
    if (wanted.patience !== undefined) share.work.patience.add(wanted.patience);
    return share;
  }

  #begin(store: Store, wanted: Edition, left: AbortSignal): Download {
    const failures: Failures = { last: null };
    const patience = new Set<Patience>();
    const arriving = new ArrivingVersion(store.layout, this.#options.clock, failures);
    const fetching = store.doubts.begin(wanted.scope, wanted.root.root);
    const done = this.#download(store, wanted, { failures, patience, arriving, fetching }, left).finally(() =>
      store.doubts.end(fetching),
    );
    done.then(
      obtained => arriving.arrived(obtained),
      (error: unknown) => arriving.failed(error),
    );
    return { failures, patience, arriving, fetching, done };
  }

  async #download(store: Store, wanted: Edition, told: Told, left: AbortSignal): Promise<Obtained> {
    const isAnew = wanted.force || wanted.isGrowing;
    const found = isAnew ? null : await store.find(wanted.scope, wanted.root);
    if (found !== null) return { fetched: found, source: 'cache', phases: {} };
    return await this.#fetch(store, wanted, told, left).catch((error: unknown) => {
      if (error instanceof Vanished) return this.#fetch(store, wanted, told, left);
      throw error;
    });
  }

  async #fetch(
    store: Store,
    wanted: Edition,
    { failures, patience: callers, arriving, fetching }: Told,
    left: AbortSignal,
  ): Promise<Obtained> {
    const intake = await store.intake();
    const limit = new RunLimit(this.#options.clock, [this.#options.stop, left]);
    const timer = new PhaseTimer(this.#options.clock);
    const { authorization, workspace, origin, edition, force } = wanted;
    const onTryFailed = (error: SidecarError) => {
      failures.last = error;
    };
    const together = randomUUID();
    const patience = { until: Number.POSITIVE_INFINITY, waits: anyWaits(callers) };
    const asks = { authorization, workspace, origin, together, patience, onTryFailed };
    const call = { ...asks, signal: limit.signal };
    let room: Promise<Reservation> | null = null;
    try {
      timer.begin('list');
      const files = await walk(
        wanted.root.root.map(root => selectSource(root, this.#options)),
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
      const own = { intake: within, follower: arriving, scope: wanted.scope.id, edition, force };
      const fetched = await fetchAll(files, { ...shared, ...own }, call);
      timer.begin('publish');
      const manifest = await inSlices(manifestInSteps(fetched));
      wanted.brought({ files: manifest.files.length, bytes: manifest.bytes });
      const committed = await store.commit(wanted.scope, wanted.root, manifest, intake, fetching);
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

function anyWaits(callers: ReadonlySet<Patience>): Patience['waits'] {
  return async failure => {
    const answers = await Promise.all([...callers].map(async ({ waits }) => await waits(failure)));
    return answers.includes(true);
  };
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
