import type { Caller } from '../domain/caller.ts';
import type { SidecarError } from '../domain/errors.ts';
import type { ModelUri } from '../domain/model-uri.ts';
import type { BreakerState, Outcome } from '../domain/outcome.ts';

/** One call for one model. Times in milliseconds. */
export interface ReloadRequest {
  readonly uri: ModelUri;
  readonly caller: Caller;
  /** On the monotonic clock; both count from the first byte of the call. */
  readonly startedAt: number;
  readonly deadlineAt: number;
  readonly refreshWaitMs: number;
  readonly maxStaleMs: number;
  readonly force: boolean;
  /** Aborts when the caller does not want it any more; its outcome is nobody's then, and told to nobody. */
  readonly unwanted?: AbortSignal;
}

/** Answers within the deadline, always with an outcome; it never throws for what MLflow, the network or the disk do. */
export interface Reloader {
  reload(request: ReloadRequest): Promise<Outcome>;
  /** The outcome of a call that is not even tried. */
  refuse(request: ReloadRequest, error: SidecarError): Outcome;
}

/** What is cached of one URI. Times in seconds. */
export interface RefSummary {
  readonly model_uri: string;
  readonly ref: string;
  readonly version: string | null;
  readonly resolved_version: string | null;
  readonly path: string | null;
  readonly ref_path: string | null;
  readonly digest: string | null;
  readonly files: number | null;
  readonly bytes: number | null;
  readonly confirmed_at: number | null;
  readonly age_s: number | null;
  readonly last_outcome: {
    readonly status: Outcome['status'];
    readonly at: number;
    readonly warning: Outcome['warning'];
  } | null;
}

export interface ModelSummary {
  readonly name: string;
  readonly refs: readonly RefSummary[];
}

export interface RegistryHealth {
  readonly uri: string;
  readonly registry_uri: string;
  /** Seconds since 1970, or null where it has not happened. */
  readonly last_success_at: number | null;
  readonly last_failure_at: number | null;
  readonly last_error: string | null;
  /** Whether it missed its wait lately and is asked in the background only. */
  readonly slow: boolean;
  /** What MLflow's own `/health` last said; it is asked beside a question only, and decides nothing. */
  readonly health: {
    readonly ok: boolean;
    /** Seconds since 1970. */
    readonly at: number;
    readonly latency_ms: number;
    readonly error: string | null;
  } | null;
}

export interface BreakerSummary {
  readonly name: 'registry' | 'tracking' | 'artifacts';
  readonly host: string;
  readonly state: BreakerState;
  /** in a row */
  readonly failures: number;
  /** Seconds until the trial; null unless open. */
  readonly retry_in_s: number | null;
  readonly last_failure: string | null;
}

export interface CacheState {
  readonly dir: string;
  readonly usable: boolean;
  /** Why not, in words for the operator. */
  readonly problem: string | null;
  readonly models: number;
  /** Of what is published. */
  readonly bytes: number;
  readonly max_bytes: number;
  /** Of everything that is kept, as last counted; null where nobody has counted yet. */
  readonly used_bytes: number | null;
  /** On its file system, as last seen. */
  readonly free_bytes: number | null;
  /** Of the last background verification; null before the first one is over. */
  readonly scrub: ScrubState | null;
}

interface ScrubState {
  /** Seconds since 1970. */
  readonly last_finished_at: number;
  readonly files: number;
  readonly damaged: number;
}

/** How much is under way. */
export interface WorkState {
  /** Calls that wait for their answer. */
  readonly calls: number;
  readonly runs: number;
  /** Questions to MLflow that wait for their turn. */
  readonly questions: number;
  /** Calls so far that joined a run instead of starting one. */
  readonly joined: number;
}

/** What there is to see; none of it asks MLflow or waits for the disk. */
export interface Catalog {
  /** Of the sidecar's own credential, or of the caller's, by name; each is looked at when it is its turn. */
  models(caller: Caller): Iterable<ModelSummary>;
  /** One of them; null where nothing of it is cached. */
  model(caller: Caller, name: string): ModelSummary | null;
  registry(): RegistryHealth;
  /** The registry's first. */
  breakers(): readonly BreakerSummary[];
  cache(): CacheState;
}
