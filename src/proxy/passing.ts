import type { Clock } from '../domain/clock.ts';
import { type FloorLimits, ProgressFloor } from '../policy/progress-floor.ts';
import type { PassingAnswer } from '../upstream/passing-answer.ts';
import type { Passing } from './answer.ts';

/** A long answer for a client. A trickle is a hang: it breaks off, and a client never takes it for whole. */
export function passedOn(answer: PassingAnswer, limits: FloorLimits, clock: Clock): Passing {
  return {
    length: answer.length,
    body: watched(answer, () => new ProgressFloor(limits, () => answer.close(), clock)),
    whenWhole: listener => answer.whenWhole(listener),
    close: () => answer.close(),
  };
}

async function* watched(answer: PassingAnswer, makeFloor: () => ProgressFloor): AsyncGenerator<Uint8Array> {
  const floor = makeFloor();
  try {
    yield* answer.pieces(rest => floor.watch(rest));
  } finally {
    floor.stop();
  }
}
