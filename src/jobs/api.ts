import type { ModelUri } from '../domain/model-uri.ts';
import type { Outcome } from '../domain/outcome.ts';
import type { ReloadRequest } from '../reload/api.ts';

/** A reload whose caller does not wait for its end. */
export interface JobRequest extends Omit<ReloadRequest, 'uri' | 'unwanted'> {
  readonly uris: readonly [ModelUri, ...ModelUri[]];
  /** Whether its answer is a list, even of one. */
  readonly isList: boolean;
}

export interface Job {
  readonly id: string;
  readonly isList: boolean;
  /** Null while it runs. */
  readonly end: JobEnd | null;
}

export interface JobEnd {
  /** In the order in which the models were named. */
  readonly outcomes: readonly [Outcome, ...Outcome[]];
  readonly durationS: number;
}

/** Asynchronous reloads. They are kept for a day after their end, across restarts, and limited in number. */
export interface Jobs {
  /**
   * Resolves when the job outlives this process, or when the disk takes too long for that. The same reload of the same try of
   * a task is the same job for as long as it runs.
   * @throws SidecarError `overloaded`
   */
  begin(request: JobRequest): Promise<Job>;
  /** @throws SidecarError `overloaded` where the disk does not say, as the other two do */
  find(id: string): Promise<Job | null>;
  /** The same at its end, or as it is after `ms` milliseconds or when `signal` aborts. */
  wait(id: string, ms: number, signal: AbortSignal): Promise<Job | null>;
  /** Forgets it; its work ends where nobody else wants it. False where there is no such job. */
  remove(id: string): Promise<boolean>;
}
