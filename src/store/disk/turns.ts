import { untilAborted } from '../../policy/abort.ts';
import { Places } from '../../policy/places.ts';

/** Over all readers: where the disk hangs, each holds one of libuv's threads. */
const READS_AT_ONCE = 8;

// How many wait is bounded by how many are served.
const turns = new Places('the disk', { inFlight: READS_AT_ONCE, waiting: Number.POSITIVE_INFINITY });

/**
 * Reads of the disk when it is one's turn.
 * @param signal ends the wait, with its reason; a read that has begun goes on, and keeps its turn while it does
 */
export async function inTurn<T>(signal: AbortSignal, read: () => Promise<T>): Promise<T> {
  return await untilAborted(turns.run(signal, read), signal);
}
