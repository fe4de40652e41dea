import type { Caller, PrewarmReason } from './caller.ts';
import type { ErrorCode } from './errors.ts';
import type { ModelUri } from './model-uri.ts';
import type { BreakerState, Outcome } from './outcome.ts';

/** Milliseconds that each phase of a run took; absent where it did not come to that. */
export interface Phases {
  readonly resolve?: number;
  readonly list?: number;
  readonly fetch?: number;
  readonly publish?: number;
}

/** What was brought from the artifact server. */
export interface Fetched {
  readonly files: number;
  readonly bytes: number;
}

/** For whom something is done: the run, and the call that it was begun for. */
export interface Origin {
  readonly runId: string;
  readonly modelUri: string;
  readonly caller: Caller;
}

/**
 * Where an answer to MLflow's clients came from: MLflow, what was kept of it, the store, a download on its way there, or from MLflow
 * past all of them.
 */
export const PROXY_SOURCES = ['mlflow', 'kept', 'store', 'download', 'passed'] as const;
export type ProxySource = (typeof PROXY_SOURCES)[number];

/** What happens in the house, for those who watch it. Rooms emit; telemetry subscribes. */
export type SidecarEvent =
  | {
      readonly type: 'reload_finished';
      readonly caller: Caller;
      readonly outcome: Outcome;
      readonly runId: string | null;
      /** Of the run that the call waited for, as far as it was by then. */
      readonly phases: Phases;
    }
  | {
      readonly type: 'run_finished';
      readonly status: 'loaded' | 'unchanged';
      readonly origin: Origin;
      readonly version: string | null;
      readonly phases: Phases;
      /** By this run itself; null where the version was there, or another run's fetch was joined. */
      readonly fetched: Fetched | null;
    }
  | {
      readonly type: 'run_failed';
      readonly origin: Origin;
      readonly version: string | null;
      readonly phases: Phases;
      readonly fetched: Fetched | null;
      readonly error: Error;
    }
  | {
      /** Nobody wanted it any more. */
      readonly type: 'run_stopped';
      readonly origin: Origin;
      readonly version: string | null;
      readonly phases: Phases;
      readonly fetched: Fetched | null;
    }
  | {
      /** An asynchronous reload was taken in, or is gone on with. */
      readonly type: 'job_begun';
      readonly caller: Caller;
      readonly modelUris: readonly string[];
      /** Whether it was begun by a process that has ended. */
      readonly isResumed: boolean;
    }
  | {
      /** A client of MLflow's has its answer. */
      readonly type: 'proxied';
      readonly caller: Caller;
      readonly what: string;
      /** Where it came from. */
      readonly source: ProxySource;
      /** Why MLflow was not waited for; null where it is not stale. */
      readonly stale: ErrorCode | null;
    }
  | {
      /** A version came into the store since a client of MLflow's loads it. */
      readonly type: 'version_brought';
      readonly origin: Origin;
      readonly fetched: Fetched;
    }
  | {
      readonly type: 'prewarm_finished';
      readonly reason: PrewarmReason;
      readonly outcome: Outcome;
    }
  | {
      /** A time of its schedule came while the run before was not over. */
      readonly type: 'prewarm_skipped';
      readonly model: ModelUri;
    }
  | {
      readonly type: 'try_failed';
      readonly what: string;
      readonly attempt: number;
      readonly origin: Origin | null;
      readonly error: Error;
      readonly retryInMs: number | null;
    }
  | {
      readonly type: 'request_refused';
      readonly caller: Caller;
      readonly method: string;
      readonly path: string;
      readonly error: Error;
    }
  | {
      readonly type: 'requests_shed';
      /** Requests that were refused since this was last told. */
      readonly count: number;
      readonly error: Error;
    }
  | {
      readonly type: 'cache_recovered';
      readonly refs: number;
      readonly swept: number;
      readonly dropped: readonly string[];
    }
  /** What the cache's file system lacks, and what that costs, in words. */
  | { readonly type: 'file_system_lacks'; readonly costs: readonly string[] }
  | {
      readonly type: 'blob_damaged';
      /** Below the cache's `v1`. */
      readonly path: string;
      /** What it should hold; null where that is not known, or where it should not be there. */
      readonly sha256: string | null;
      readonly size: number | null;
      /** What is wrong, in words that follow its name. */
      readonly found: string;
      /** That are not given any more. */
      readonly snapshots: readonly string[];
      readonly modelUris: readonly string[];
      /** Why it could not be moved to the quarantine; null where it was. */
      readonly error: Error | null;
    }
  | {
      readonly type: 'scrub_finished';
      readonly files: number;
      readonly bytes: number;
      readonly damaged: number;
      readonly durationMs: number;
    }
  | {
      readonly type: 'breaker_changed';
      readonly name: 'registry' | 'tracking' | 'artifacts';
      readonly host: string;
      readonly from: BreakerState;
      readonly to: BreakerState;
      /** The failure that opened it. */
      readonly reason: string | null;
    }
  | {
      readonly type: 'cache_collected';
      readonly snapshots: number;
      readonly freedBytes: number;
      /** `litter`, `superseded`, `space`, `too_stale`. */
      readonly why: readonly string[];
    }
  | { readonly type: 'cache_unusable'; readonly error: Error };

type Listener = (event: SidecarEvent) => void;

export class EventBus {
  readonly #listeners = new Set<Listener>();

  subscribe(listener: Listener): void {
    this.#listeners.add(listener);
  }

  unsubscribe(listener: Listener): void {
    this.#listeners.delete(listener);
  }

  emit(event: SidecarEvent): void {
    for (const listener of this.#listeners) listener(event);
  }

  /** The same, once whoever waits for an answer has it. Whoever watches does not end the process by an error. */
  emitSoon(event: SidecarEvent): void {
    setImmediate(() => {
      try {
        this.emit(event);
      } catch (error) {
        process.emitWarning(error instanceof Error ? error : String(error));
      }
    });
  }
}
