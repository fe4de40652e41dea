const MOST_JITTER_MS = 60_000;

/** When a model is to be pre-warmed next. Times in milliseconds since 1970. */
export interface Due {
  readonly at: number;
  /** The schedule's time that it stands for; null where it only fills the gap that a clock which was set back would leave. */
  readonly slot: number | null;
}

/** The shortest time between two of a schedule's times that follow each other; Infinity for a single one. */
export function periodOf(slots: readonly number[]): number {
  const gaps = slots.slice(1).map((slot, i) => slot - (slots[i] ?? slot));
  return Math.min(Number.POSITIVE_INFINITY, ...gaps);
}

/**
 * By how much a model's runs stand off its schedule's times, so that not everybody asks MLflow in one moment: a tenth of the period at
 * most, and 60 s at most between the first model and the last. A schedule of ten minutes or more is never ahead of its times.
 * @param share the model's place among all, 0 to 1
 */
export function offsetOf(periodMs: number, share: number): number {
  const late = Math.min(periodMs / 10, MOST_JITTER_MS);
  const early = Math.min(late, MOST_JITTER_MS - late);
  return Math.round(share * (early + late) - early);
}

/**
 * The first that is still to come.
 * @param slots the schedule's times
 */
export function nextDue(slots: readonly number[], offset: number, now: number): Due | null {
  const slot = slots.find(time => time + offset > now);
  return slot === undefined ? null : { at: slot + offset, slot };
}

/**
 * What is due after the clock was set back: what the schedule says by the new time, but no later than the old one would have had it.
 * @param backMs by how much it was set back
 * @param byNewTime what is due next by the new time
 */
export function afterSetBack(due: Due, backMs: number, byNewTime: Due | null): Due {
  const at = due.at - backMs;
  return byNewTime !== null && byNewTime.at <= at ? byNewTime : { at, slot: null };
}
