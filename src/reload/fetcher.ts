import { FILES_IN_FLIGHT, fetchAll } from '../artifacts/fetch.ts';
import { PARTS } from '../artifacts/large.ts';
import { type SourceOptions, selectSource } from '../artifacts/select.ts';
import { walk } from '../artifacts/walk.ts';
import type { Clock } from '../domain/clock.ts';
import { SidecarError } from '../domain/errors.ts';
import type { Origin, Phases } from '../domain/events.ts';
import { type ManifestFile, manifestOf } from '../domain/manifest.ts';
import type { Scope } from '../domain/scope.ts';
import type { ArtifactRoot } from '../domain/version.ts';
import { FairLimit } from '../policy/fair-limit.ts';
import type { FloorLimits } from '../policy/progress-floor.ts';
import { SingleFlight } from '../policy/single-flight.ts';
import type { FetchedRoot } from '../store/manifests.ts';
import type { Store } from '../store/store.ts';

import { PhaseTimer } from './phase-timer.ts';

/** How long the fetch of one version may take, with or without callers. */
const BASE_LIMIT_MS = 30 * 60_000;
const LONGEST_LIMIT_MS = 2 * 3_600_000;
const SLOWEST_BYTES_PER_MS = 5_000;

/** What is to be there in the end. */
export interface Wanted {
  readonly scope: Scope;
  readonly root: ArtifactRoot;
  readonly authorization: string | null;
  /** Fetch and verify again what is cached. */
  readonly force: boolean;
  readonly origin: Origin;
  /** Told how long the phases took, also where one fails. */
  readonly took: (phases: Phases) => void;
}

export interface Obtained {
  readonly fetched: FetchedRoot;
  readonly source: 'mlflow' | 'cache';
  readonly phases: Phases;
}

export interface FetcherOptions extends SourceOptions {
  readonly floor: FloorLimits;
  readonly clock: Clock;
  /** Aborts when the process ends. */
  readonly stop: AbortSignal;
}

/** Brings versions into the store; equal wishes are one download, which no caller that leaves can end. */
export class Fetcher {
  readonly #options: FetcherOptions;
  readonly #versions = new SingleFlight<Obtained>();
  readonly #blobs = new SingleFlight<Omit<ManifestFile, 'path'>>();
  readonly #limit = new FairLimit(FILES_IN_FLIGHT);

  constructor(options: FetcherOptions) {
    this.#options = options;
  }

  async obtain(store: Store, wanted: Wanted): Promise<Obtained> {
    const key = JSON.stringify([wanted.scope.id, wanted.root, wanted.force]);
    return await this.#versions.join(key, async () => {
      const found = wanted.force ? null : await store.find(wanted.scope, wanted.root);
      if (found !== null) return { fetched: found, source: 'cache', phases: {} };
      return await this.#fetch(store, wanted);
    });
  }

  async #fetch(store: Store, wanted: Wanted): Promise<Obtained> {
    const intake = await store.intake();
    const limit = new RunLimit(this.#options.clock, this.#options.stop);
    const timer = new PhaseTimer(this.#options.clock);
    const call = { signal: limit.signal, authorization: wanted.authorization, origin: wanted.origin };
    try {
      timer.begin('list');
      const files = await walk(
        wanted.root.map(root => selectSource(root, this.#options)),
        call,
      );
      limit.extendFor(files.reduce((sum, file) => sum + (file.size ?? 0), 0));
      timer.begin('fetch');
      const slots = this.#limit.forRun();
      const shared = { ...this.#options, slots, parts: PARTS, flight: this.#blobs, intake };
      const fetched = await fetchAll(files, { ...shared, scope: wanted.scope.id, force: wanted.force }, call);
      timer.begin('publish');
      const committed = await store.commit(wanted.scope, wanted.root, manifestOf(fetched), intake);
      return { fetched: committed, source: 'mlflow', phases: timer.end() };
    } finally {
      wanted.took(timer.end());
      limit.dispose();
      await intake.close();
    }
  }
}

/** Ends a fetch that nobody can be waiting for any more. */
class RunLimit {
  readonly #controller = new AbortController();
  readonly #clock: Clock;
  readonly #startedAt: number;
  #timer: NodeJS.Timeout;
  readonly signal: AbortSignal;

  constructor(clock: Clock, stop: AbortSignal) {
    this.#clock = clock;
    this.#startedAt = clock.monotonic();
    this.signal = AbortSignal.any([this.#controller.signal, stop]);
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
