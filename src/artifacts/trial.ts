import { SidecarError } from '../domain/errors.ts';
import type { Breaker, Trial } from '../policy/breaker.ts';
import type { FloorLimits } from '../policy/progress-floor.ts';

/** A file may take hours; whether its server is well shows sooner. */
const TRIAL_MS = 30_000;

type Body = AsyncIterable<Uint8Array>;

type Fetch<T> = (signal: AbortSignal, watch: (body: Body) => Body) => Promise<T>;

/**
 * Fetches one file, or a part of it, past the breaker of its server; call it when the request is about to leave.
 * @param breaker none for local files
 * @throws SidecarError `circuit_open`, or what `fetch` throws
 */
export async function pastBreaker<T>(
  breaker: Breaker | undefined,
  floor: FloorLimits,
  signal: AbortSignal,
  fetch: Fetch<T>,
): Promise<T> {
  if (breaker === undefined) return await fetch(signal, body => body);
  return await breaker.run(signal, trial => onTrial(trial, floor, signal, fetch));
}

/**
 * Fetches one file; where it is a breaker's trial, that is decided within 30 s: no byte is a failure, as much as the
 * progress floor asks for a success. What lies between them ends with the file, or at the floor.
 * @throws SidecarError `artifact_timeout` where a trial brought no byte
 */
export async function onTrial<T>(
  trial: Trial | null,
  { bytesPerSecond }: FloorLimits,
  signal: AbortSignal,
  fetch: Fetch<T>,
): Promise<T> {
  if (trial === null) return await fetch(signal, body => body);
  let bytes = 0;
  const tooLate = new AbortController();
  const decide = () => {
    if (bytes === 0) tooLate.abort(nothingCame());
    else if (bytes >= (bytesPerSecond * TRIAL_MS) / 1_000) trial.succeeded();
  };
  async function* counted(body: Body): AsyncGenerator<Uint8Array> {
    for await (const chunk of body) {
      bytes += chunk.byteLength;
      yield chunk;
    }
  }
  const timer = setTimeout(decide, TRIAL_MS);
  try {
    return await fetch(AbortSignal.any([signal, tooLate.signal]), counted);
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
