import type { LimitFunction } from 'p-limit';
import { type ErrorCode, SidecarError } from '../domain/errors.ts';
import type { EventBus } from '../domain/events.ts';
import type { ManifestFile } from '../domain/manifest.ts';
import { type FloorLimits, ProgressFloor } from '../policy/progress-floor.ts';
import { type RetryPlan, retry } from '../policy/retry.ts';
import type { SingleFlight } from '../policy/single-flight.ts';
import type { Call } from '../upstream/mlflow-client.ts';
import type { OpenFile } from './source.ts';
import { pastBreaker } from './trial.ts';
import type { ListedFile } from './walk.ts';

/** The run's own limit is never longer; a try is bounded by it and by the progress floor. */
const LONGEST_MS = 2 * 3_600_000;
const FILE_PLAN: RetryPlan = { attempts: 3, tryTimeoutMs: LONGEST_MS, budgetMs: LONGEST_MS };
const TRANSIENT: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'mlflow_unreachable',
  'mlflow_error',
  'artifact_corrupt',
]);

/** Files in flight over all runs. */
export const FILES_IN_FLIGHT = 16;

type Blob = Omit<ManifestFile, 'path'>;

/** Where the files go. */
interface Intake {
  /**
   * Takes a body in, whole or not at all.
   * @param size what the listing says, in bytes; null where it says nothing
   * @throws SidecarError `artifact_corrupt` where the body has another size
   */
  take(body: AsyncIterable<Uint8Array>, size: number | null): Promise<Blob>;
  /** Also wants a file that another run took in. */
  share(blob: Blob): void;
}

export interface FetchOptions {
  readonly intake: Intake;
  /** Shared by all runs. */
  readonly limit: LimitFunction;
  readonly floor: FloorLimits;
  readonly events: EventBus;
  /** A file that two runs want is fetched by one of them. */
  readonly flight: SingleFlight<Blob>;
  /** What tells these files from others of the same address: credential, force. */
  readonly flightKey: string;
}

/**
 * Fetches every file, several at once; the first that fails for good ends the others.
 * @throws SidecarError `artifact_timeout` below the progress floor, or why a file did not come whole
 */
export async function fetchAll(
  files: readonly ListedFile[],
  options: FetchOptions,
  call: Call,
): Promise<readonly ManifestFile[]> {
  const stop = new AbortController();
  const signal = AbortSignal.any([call.signal, stop.signal]);
  const floor = new ProgressFloor(options.floor, () => stop.abort(belowFloor(options.floor)));
  const queue = files.values();
  const done: ManifestFile[] = [];
  const worker = async () => {
    for (const file of queue) {
      done.push(await options.limit(() => fetchOne(file, floor, options, { ...call, signal })));
    }
  };
  try {
    // All of them end before this does, so that nothing writes any more after a failure; the first reason is the one told.
    await Promise.all(
      Array.from({ length: FILES_IN_FLIGHT }, () => worker().catch(error => stop.abort(error))),
    );
    signal.throwIfAborted();
    return done;
  } finally {
    floor.stop();
  }
}

async function fetchOne(
  file: ListedFile,
  floor: ProgressFloor,
  options: FetchOptions,
  call: Call,
): Promise<ManifestFile> {
  const key = JSON.stringify([options.flightKey, file.source.root, file.path]);
  const blob = await options.flight.joinOrRedo(key, call.signal, () => download(file, floor, options, call));
  options.intake.share(blob);
  return { path: file.path, ...blob };
}

async function download(file: ListedFile, floor: ProgressFloor, options: FetchOptions, call: Call) {
  const hooks = {
    breaker: file.source.breaker,
    passesByItself: true as const,
    isTransient: (error: SidecarError) => TRANSIENT.has(error.code),
    timeoutError: () => new SidecarError('artifact_timeout', `${file.path} did not come in time.`),
    onFailure: (attempt: number, error: SidecarError, retryInMs: number | null) =>
      options.events.emit({
        type: 'try_failed',
        what: file.path,
        attempt,
        origin: call.origin,
        error,
        retryInMs,
      }),
  };
  return await retry(FILE_PLAN, hooks, call.signal, tryEnd =>
    pastBreaker(file.source.breaker, options.floor, tryEnd, async (signal, watch) => {
      const opened = await file.source.open(file.path, { ...call, signal });
      try {
        assertComplete(file, opened);
        return await options.intake.take(floor.watch(watch(opened.body)), file.size);
      } finally {
        opened.close();
      }
    }),
  );
}

/** A body that ends with its connection looks whole wherever it was cut. */
function assertComplete(file: ListedFile, { length, hasEnd }: OpenFile): void {
  if (file.size === null && !hasEnd) {
    throw new SidecarError('artifact_corrupt', `${file.path} has neither a listed size nor a marked end.`, {
      hint: 'Nobody could tell whether it is whole. Let MLflow, or the proxy before it, send Content-Length.',
    });
  }
  if (length === null || file.size === null || length === file.size) return;
  throw new SidecarError(
    'artifact_corrupt',
    `${file.path} has ${length} bytes, but the listing says ${file.size}.`,
    {
      hint: 'The artifact was overwritten after it was logged, or its store is damaged. Log the model again.',
    },
  );
}

function belowFloor(floor: FloorLimits): SidecarError {
  const speed = `${floor.bytesPerSecond / 1_024} KiB/s`;
  return new SidecarError(
    'artifact_timeout',
    `The artifacts came at less than ${speed} for ${floor.windowS} s.`,
    {
      hint: 'Check the load of MLflow and of the store behind it.',
      serverFault: true,
    },
  );
}
