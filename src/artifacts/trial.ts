import { SidecarError } from '../domain/errors.ts';
import { untilAborted, within } from '../policy/abort.ts';
import type { Trial } from '../policy/breaker.ts';
import type { Slots } from '../policy/fair-limit.ts';
import type { FloorLimits } from '../policy/progress-floor.ts';
import type { Call } from '../upstream/mlflow-client.ts';
import type { ArtifactSource } from './source.ts';

/** A file may take hours; whether its server is well shows sooner. */
const TRIAL_MS = 30_000;
/** What came late for that is looked at again so often. */
const AGAIN_MS = 1_000;

/** Told of each chunk. */
type Came = (bytes: number) => void;

type Fetch<T> = (signal: AbortSignal, came: Came) => Promise<T>;

/** May give its slot back before it ends. */
export type FetchInSlot<T> = (signal: AbortSignal, came: Came, giveBack: () => void) => Promise<T>;

/**
 * Fetches one file, or a part of it, in a slot and past the breaker of its server. Where another's trial is under way it
 * waits for that one, without a slot: refused, it would end its run, and with it perhaps the trial.
 * @throws SidecarError `circuit_open`, or what `fetch` throws
 */
export async function pastBreaker<T>(
  slots: Slots,
  { breaker, root }: Pick<ArtifactSource, 'breaker' | 'root'>,
  floor: FloorLimits,
  { signal, together }: Pick<Call, 'signal' | 'together'>,
  fetch: FetchInSlot<T>,
): Promise<T> {
  // However many of its files fail, that is one version.
  const about = { item: root, together };
  if (breaker === undefined)
    return await slots.use(signal, giveBack => fetch(signal, () => undefined, giveBack));
  // By then a trial has been decided, or the floor has ended it.
  const waitUntil = performance.now() + TRIAL_MS + floor.windowS * 1_000;
  for (;;) {
    const msLeft = waitUntil - performance.now();
    if (breaker.trial !== null) await untilAborted(within(msLeft, breaker.trial), signal);
    const done = await slots.use(signal, async giveBack => {
      if (breaker.trial !== null && msLeft > 0) return null;
      const fetchIt: Fetch<T> = (until, came) => fetch(until, came, giveBack);
      const fetching = breaker.run(signal, trial => onTrial(trial, floor, signal, fetchIt), undefined, about);
      return { value: await fetching };
    });
    if (done !== null) return done.value;
  }
}

/** The call as one of its tries makes it; the first tries of a download are made together, and so are its second ones. */
export function ofTry(call: Call, signal: AbortSignal, attempt: number): Call {
  return call.together === undefined
    ? { ...call, signal }
    : { ...call, signal, together: `${call.together} ${attempt}` };
}

/**
 * Fetches one file; where it is a breaker's trial, no byte within 30 s is a failure, and from then on as much as the
 * progress floor asks for in 30 s is a success. What lies between them ends with the file, or at the floor.
 * @throws SidecarError `artifact_timeout` where a trial brought no byte
 */
export async function onTrial<T>(
  trial: Trial | null,
  { bytesPerSecond }: FloorLimits,
  signal: AbortSignal,
  fetch: Fetch<T>,
): Promise<T> {
  if (trial === null) return await fetch(signal, () => undefined);
  let bytes = 0;
  const tooLate = new AbortController();
  const decide = () => {
    if (bytes === 0) tooLate.abort(nothingCame());
    else if (bytes >= (bytesPerSecond * TRIAL_MS) / 1_000) trial.succeeded();
    else timer = setTimeout(decide, AGAIN_MS);
  };
  const count = (more: number) => {
    bytes += more;
  };
  let timer = setTimeout(decide, TRIAL_MS);
  try {
    return await fetch(AbortSignal.any([signal, tooLate.signal]), count);
  } finally {
    clearTimeout(timer);
  }
}

function nothingCame(): SidecarError {
  return new SidecarError('artifact_timeout', `No byte came within ${TRIAL_MS / 1_000} s.`, {
    hint: 'Check the load of MLflow and of the store behind it.',
    serverFault: true,
  });
}
