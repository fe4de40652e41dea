import type { Clock } from '../../src/domain/clock.ts';
import { parseModelUri } from '../../src/domain/model-uri.ts';
import type { ModelVersion } from '../../src/domain/version.ts';
import type { Resolution } from '../../src/registry/resolution.ts';
import type { ReloadRequest } from '../../src/reload/api.ts';
import { Run, type RunProgress, type RunResult } from '../../src/reload/run.ts';

/** Stands still until it is told how many milliseconds go by. */
export class ManualClock implements Clock {
  #now = 1_700_000_000_000;
  #monotonic = 5_000;

  now(): number {
    return this.#now;
  }

  monotonic(): number {
    return this.#monotonic;
  }

  advance(ms: number): void {
    this.#now += ms;
    this.#monotonic += ms;
  }
}

export const VERSION: ModelVersion = {
  name: 'churn',
  version: '2',
  stage: 'Production',
  aliases: ['champion'],
  runId: 'run-2',
  modelId: 'm-2',
  createdMs: 1_731_358_595_123,
  source: 'models:/m-2',
};

export const RESOLUTION: Resolution = {
  version: VERSION,
  root: null,
  isGrowing: false,
  logged: null,
  fault: null,
};

/** A run that a test leads by the hand. */
export class LedRun {
  readonly run: Run;
  started = 0;
  stopped: AbortSignal | null = null;
  readonly #progress = Promise.withResolvers<RunProgress>();
  readonly #end = Promise.withResolvers<RunResult>();

  constructor(before: Run | null = null) {
    this.run = new Run((progress, stopped) => {
      this.started++;
      this.stopped = stopped;
      this.#progress.resolve(progress);
      return this.#end.promise;
    }, before);
    this.#end.promise.catch(() => undefined);
  }

  progress(): Promise<RunProgress> {
    return this.#progress.promise;
  }

  async resolve(): Promise<void> {
    (await this.progress()).resolved(RESOLUTION);
    await settle();
  }

  async end(result: RunResult = { status: 'loaded', source: 'mlflow' }): Promise<void> {
    this.#end.resolve(result);
    await settle();
  }

  async fail(error: unknown): Promise<void> {
    this.#end.reject(error);
    await settle();
  }
}

/** Lets everything happen that waits for nothing but a turn. */
async function settle(): Promise<void> {
  await new Promise(resolve => setImmediate(resolve));
}

export function requestFor(uri: string, change: Partial<ReloadRequest> = {}): ReloadRequest {
  return {
    uri: parseModelUri(uri),
    caller: { requestId: 'r-1', airflow: {}, authorization: null },
    startedAt: 0,
    deadlineAt: 60_000,
    refreshWaitMs: 2_000,
    maxStaleMs: 604_800_000,
    force: false,
    ...change,
  };
}
