import { type ErrorCode, SidecarError } from '../domain/errors.ts';
import type { ManifestFile } from '../domain/manifest.ts';
import { throughOutages } from '../policy/patience.ts';
import { type FloorLimits, ProgressFloor, type Transfer } from '../policy/progress-floor.ts';
import { type RetryPlan, retry } from '../policy/retry.ts';
import type { Call } from '../upstream/mlflow-client.ts';
import { assertComplete } from './complete.ts';
import type { Blob, FetchOptions } from './fetch-options.ts';
import { fetchLarge, type LargeFile, RESUMABLE_BYTES } from './large.ts';
import { FILES_IN_WORK } from './limits.ts';
import { Changed } from './range.ts';
import type { SmallFile } from './source.ts';
import { type FetchInSlot, ofTry, pastBreaker } from './trial.ts';
import type { ListedFile } from './walk.ts';

/** A try is bounded by its run's own limit and by the progress floor. */
const FOREVER = Number.POSITIVE_INFINITY;
const FILE_PLAN: RetryPlan = { attempts: 3, tryTimeoutMs: FOREVER, budgetMs: FOREVER };
const TRANSIENT: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'mlflow_unreachable',
  'mlflow_error',
  'artifact_corrupt',
]);

/** A file up to this size is gathered in memory: one write, one sync, and no slot is held meanwhile. */
const SMALL_BYTES = 256 * 1024;

/** What the files of one run have in common. */
interface FetchRun {
  readonly options: FetchOptions;
  readonly floor: ProgressFloor;
  readonly isOfMany: boolean;
  /** Aborts where all of them together come too slowly; the tries that begin after that have another. */
  tooSlow: AbortController;
}

/** With what it is called over all runs. */
type KeyedFile = ListedFile & { readonly key: string };

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
  const floor = new ProgressFloor(options.floor, () => {
    const { tooSlow } = run;
    run.tooSlow = new AbortController();
    tooSlow.abort(belowFloor(options.floor));
  });
  const isOfMany = files.length > FILES_IN_WORK;
  const run: FetchRun = { options, floor, isOfMany, tooSlow: new AbortController() };
  const queue = files.values();
  const done: ManifestFile[] = [];
  const worker = async () => {
    for (const file of queue) {
      done.push(await fetchOne(file, run, { ...call, signal }));
    }
  };
  try {
    // All of them end before this does, so that nothing writes any more after a failure; the first reason is the one told.
    await Promise.all(
      Array.from({ length: FILES_IN_WORK }, () => worker().catch(error => stop.abort(error))),
    );
    signal.throwIfAborted();
    return done;
  } finally {
    floor.stop();
  }
}

async function fetchOne(file: ListedFile, run: FetchRun, call: Call): Promise<ManifestFile> {
  const { scope, edition, force, flight, arrivals, follower, intake } = run.options;
  const key = JSON.stringify([scope, edition, force, file.source.root, file.path]);
  const leave = arrivals.follow(key, file.path, follower);
  try {
    const blob = await flight.joinOrRedo(key, call.signal, () =>
      downloadPatiently({ ...file, key }, run, call),
    );
    intake.share(blob);
    const fetched = { path: file.path, ...blob };
    follower.whole(fetched);
    return fetched;
  } finally {
    leave();
  }
}

/** Whatever it holds while it is fetched it does not hold while it waits for its server. */
async function downloadPatiently(file: KeyedFile, run: FetchRun, call: Call): Promise<Blob> {
  const { breaker, root: item } = file.source;
  const { patience, signal, onTryFailed: onWait } = call;
  return await throughOutages({ breaker, item, patience, signal, onWait }, () => download(file, run, call));
}

async function download(file: KeyedFile, run: FetchRun, call: Call): Promise<Blob> {
  const { size } = file;
  const { bodies, intake, larges } = run.options;
  if (size !== null && size >= RESUMABLE_BYTES)
    return await larges.use(call.signal, () => downloadLarge(file, size, run, call));
  if (size === null || size > SMALL_BYTES) return await downloadStream(file, run, call);
  // The disk works while the slot is another file's.
  return await bodies.use(call.signal, async () =>
    intake.takeBytes(await downloadSmall({ ...file, size, isOneOfMany: run.isOfMany }, run, call)),
  );
}

async function downloadStream(file: KeyedFile, run: FetchRun, call: Call): Promise<Blob> {
  const { options, floor } = run;
  return await inTries(file, run, call, async (signal, came) => {
    const opened = await file.source.open(file.path, { ...call, signal });
    try {
      assertComplete(file, opened);
      return await options.intake.take(floor.watch(opened.body, came), file.size);
    } finally {
      opened.close();
    }
  });
}

async function downloadSmall(file: KeyedFile & SmallFile, run: FetchRun, call: Call): Promise<Uint8Array> {
  const { options, floor } = run;
  return await inTries(file, run, call, async (signal, came, giveBack) => {
    let transfer: Transfer | null = null;
    let isWhole = false;
    let isTail = false;
    const progress = {
      answered: () => {
        transfer = floor.begin();
        // A connection of its own sends at once; a kept one takes 45 ms to.
        isTail = file.isOneOfMany && options.tails.take();
        if (isTail) giveBack();
      },
      came: (bytes: number) => {
        transfer?.came(bytes);
        came(bytes);
      },
    };
    try {
      const bytes = await file.source.read(file, { ...call, signal }, progress);
      isWhole = true;
      return bytes;
    } finally {
      (transfer as Transfer | null)?.end(isWhole);
      if (isTail) options.tails.giveBack();
    }
  });
}

async function inTries<T>(file: KeyedFile, run: FetchRun, call: Call, work: FetchInSlot<T>): Promise<T> {
  const { slots, floor, arrivals } = run.options;
  return await retry(FILE_PLAN, hooksFor(file, run.options, call), call.signal, (signal, attempt) => {
    const until = AbortSignal.any([signal, run.tooSlow.signal]);
    return pastBreaker(
      slots,
      file.source,
      floor,
      ofTry(call, until, attempt),
      async (ends, came, giveBack) => {
        const count = (bytes: number) => {
          came(bytes);
          arrivals.came(file.key);
        };
        return await work(ends, count, giveBack);
      },
    );
  });
}

async function downloadLarge(listed: KeyedFile, size: number, run: FetchRun, call: Call): Promise<Blob> {
  const { options, floor } = run;
  const { intake, slots, parts, scope, force, arrivals } = options;
  const identity = JSON.stringify([scope, listed.source.root, listed.path]);
  const large = await intake.partial({ identity, total: size }, force);
  const hooks = hooksFor(listed, options, call);
  const file: LargeFile = {
    listed,
    size,
    growing: large.growing,
    parts,
    slots,
    floor,
    limits: options.floor,
    came: () => {
      // Not before: what an earlier try left may be of another content.
      arrivals.grows(listed.key, large.followed);
      arrivals.came(listed.key);
    },
    retry: async (under, work) =>
      await retry(
        FILE_PLAN,
        { ...hooks, isTransient: error => !(error instanceof Changed) && hooks.isTransient(error) },
        under.signal,
        (signal, attempt) => work(ofTry(under, AbortSignal.any([signal, run.tooSlow.signal]), attempt)),
      ),
  };
  // Its tries are not requests: those within ask the breaker.
  const { breaker: _, ...ours } = hooks;
  const restart = { ...ours, isTransient: (error: SidecarError) => error instanceof Changed };
  try {
    await retry(FILE_PLAN, restart, call.signal, signal => fetchLarge(file, { ...call, signal }));
    return await large.take();
  } catch (error) {
    arrivals.grows(listed.key, null);
    await large.leave();
    throw error;
  }
}

function hooksFor(file: ListedFile, options: FetchOptions, call: Call) {
  return {
    breaker: file.source.breaker,
    item: file.source.root,
    isPatient: call.patience !== undefined,
    passesByItself: true as const,
    isTransient: (error: SidecarError) => TRANSIENT.has(error.code),
    timeoutError: () => new SidecarError('artifact_timeout', `${file.path} did not come in time.`),
    onFailure: (attempt: number, error: SidecarError, retryInMs: number | null) => {
      call.onTryFailed?.(error);
      options.events.emit({
        type: 'try_failed',
        what: file.path,
        attempt,
        origin: call.origin,
        error,
        retryInMs,
      });
    },
  };
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
