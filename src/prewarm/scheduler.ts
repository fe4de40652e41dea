import type { Schedule } from '../config/options.ts';
import type { Clock } from '../domain/clock.ts';
import type { ModelUri } from '../domain/model-uri.ts';
import { type Slots, slotsOf } from './cron.ts';
import { afterSetBack, type Due, nextDue, offsetOf, periodOf } from './plan.ts';

/** How soon it is noticed that the clock was set. */
const LOOK_MS = 1_000;
/** What a clock is set back by is more; what it is slowed down by is less. */
const SET_BACK_MS = 1_000;
/** For the period of an irregular schedule: a day of hours, and a working week of days. */
const SLOTS_OF_PERIOD = 24;
/** The one that was just served, the next, and one to spare. */
const SLOTS_AHEAD = 3;

export interface SchedulerOptions {
  readonly schedules: readonly Schedule[];
  /** Of the IANA database. */
  readonly timezone: string;
  /** A model's time has come. */
  readonly onDue: (uri: ModelUri) => void;
  readonly clock: Clock;
  /** A model's place within the jitter, 0 to 1. */
  readonly random?: () => number;
}

interface Entry extends Schedule {
  readonly slots: Slots;
  readonly offset: number;
  due: Due | null;
}

/**
 * Tells when models are due. node-cron says at which times; the waiting is done here, since its own timers are silent for as long as a
 * clock was set back, and catch up with every time that one was set ahead over.
 */
export class Scheduler {
  readonly #options: SchedulerOptions;
  readonly #entries: readonly Entry[];
  #looked: { readonly now: number; readonly monotonic: number };
  #timer: NodeJS.Timeout | null = null;

  constructor(options: SchedulerOptions) {
    const { schedules, timezone, random = Math.random } = options;
    this.#options = options;
    const byCron = Map.groupBy(schedules, ({ cron }) => cron);
    this.#entries = [...byCron].flatMap(([cron, alike]) => {
      const slots = slotsOf(cron, timezone);
      const period = periodOf(slots.next(SLOTS_OF_PERIOD));
      return alike.map(schedule => ({ ...schedule, slots, offset: offsetOf(period, random()), due: null }));
    });
    this.#looked = this.#times();
  }

  /** When each is due next, in milliseconds since 1970; null before the start, and for what is never due. */
  nextRuns(): ReadonlyMap<ModelUri, number | null> {
    return new Map(this.#entries.map(({ uri, due }) => [uri, due?.at ?? null]));
  }

  start(): void {
    this.#looked = this.#times();
    for (const entry of this.#entries) entry.due = this.#next(entry, null);
    this.#arm();
  }

  stop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }

  #look(): void {
    const before = this.#looked;
    this.#looked = this.#times();
    const { now, monotonic } = this.#looked;
    const backMs = monotonic - before.monotonic - (now - before.now);
    if (backMs > SET_BACK_MS) this.#setBack(backMs);
    for (const entry of this.#entries) {
      if (entry.due === null || entry.due.at > now) continue;
      entry.due = this.#next(entry, entry.due.slot);
      this.#options.onDue(entry.uri);
    }
    this.#arm();
  }

  #setBack(backMs: number): void {
    for (const entry of this.#entries) {
      if (entry.due !== null) entry.due = afterSetBack(entry.due, backMs, this.#next(entry, null));
    }
  }

  #next({ slots, offset }: Entry, done: number | null): Due | null {
    return nextDue(slots.next(SLOTS_AHEAD), offset, this.#looked.now, done);
  }

  #arm(): void {
    const soonest = Math.min(...this.#entries.map(({ due }) => due?.at ?? Number.POSITIVE_INFINITY));
    const ms = Math.max(0, Math.min(LOOK_MS, soonest - this.#options.clock.now()));
    this.#timer = setTimeout(() => this.#look(), ms).unref();
  }

  #times(): { readonly now: number; readonly monotonic: number } {
    const { clock } = this.#options;
    return { now: clock.now(), monotonic: clock.monotonic() };
  }
}
