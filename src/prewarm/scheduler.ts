import type { Schedule } from '../config/options.ts';
import type { Clock } from '../domain/clock.ts';
import type { ModelUri } from '../domain/model-uri.ts';
import { Slots } from './cron.ts';
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
  /** By how much less the clock has gone than time, since it was last seen to be set. */
  #behindMs: number;
  #timer: NodeJS.Timeout | null = null;

  constructor(options: SchedulerOptions) {
    const { schedules, timezone, random = Math.random } = options;
    this.#options = options;
    const byCron = Map.groupBy(schedules, ({ cron }) => cron);
    this.#entries = [...byCron].flatMap(([cron, alike]) => {
      const slots = new Slots(cron, timezone, options.clock);
      const period = periodOf(slots.next(SLOTS_OF_PERIOD));
      return alike.map(schedule => ({ ...schedule, slots, offset: offsetOf(period, random()), due: null }));
    });
    this.#behindMs = this.#behind();
  }

  /** When each is due next, in milliseconds since 1970; null before the start, and for what is never due. */
  nextRuns(): ReadonlyMap<ModelUri, number | null> {
    return new Map(this.#entries.map(({ uri, due }) => [uri, due?.at ?? null]));
  }

  start(): void {
    this.#behindMs = this.#behind();
    for (const entry of this.#entries) entry.due = this.#anew(entry);
    if (this.#entries.length > 0) this.#arm();
  }

  stop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }

  #look(): void {
    const behind = this.#behind();
    const backMs = behind - this.#behindMs;
    if (backMs > SET_BACK_MS) this.#setBack(backMs);
    // Many small steps back are one large one.
    if (backMs > SET_BACK_MS || backMs < 0) this.#behindMs = behind;
    const now = this.#options.clock.now();
    for (const entry of this.#entries) {
      if (entry.due === null || entry.due.at > now) continue;
      const isOnTime = entry.due.slot !== null && now - entry.due.at <= LOOK_MS;
      entry.due = isOnTime ? this.#next(entry) : this.#anew(entry);
      this.#options.onDue(entry.uri);
    }
    this.#arm();
  }

  #setBack(backMs: number): void {
    for (const entry of this.#entries) {
      if (entry.due !== null) entry.due = afterSetBack(entry.due, backMs, this.#anew(entry));
    }
  }

  #next({ slots, offset }: Entry): Due | null {
    return nextDue(slots.next(SLOTS_AHEAD), offset, this.#options.clock.now());
  }

  /** The same, where a time of the schedule may just have gone by whose offset has not. */
  #anew({ slots, offset }: Entry): Due | null {
    return nextDue([...slots.recent(), ...slots.next(SLOTS_AHEAD)], offset, this.#options.clock.now());
  }

  #arm(): void {
    const soonest = Math.min(...this.#entries.map(({ due }) => due?.at ?? Number.POSITIVE_INFINITY));
    const ms = Math.max(0, Math.min(LOOK_MS, soonest - this.#options.clock.now()));
    this.#timer = setTimeout(() => this.#look(), ms).unref();
  }

  #behind(): number {
    const { clock } = this.#options;
    return clock.monotonic() - clock.now();
  }
}
