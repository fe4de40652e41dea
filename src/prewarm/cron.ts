import { createTask, parse, type ScheduledTask } from 'node-cron';
import type { Clock } from '../domain/clock.ts';

const SECOND_MS = 1_000;
const MINUTE_MS = 60_000;
const HOURS = 24;
/** As long as any offset is. */
const RECENT_S = 60;

/**
 * The times of one schedule, in milliseconds since 1970, as node-cron understands the expression, which it has found valid. Its tasks
 * are never started, so they have no timers. The present moment is the system's: node-cron takes no other.
 */
export class Slots {
  readonly #cron: string;
  readonly #timezone: string;
  readonly #clock: Clock;
  readonly #tasks = new Map<string, ScheduledTask>();
  /** Whether it is for every hour. */
  readonly #isHourless: boolean;
  #zone: { readonly minute: number; readonly name: string } = { minute: Number.NaN, name: '' };
  #recent: { readonly second: number; readonly slots: readonly number[] } = { second: Number.NaN, slots: [] };

  /** @param timezone of the IANA database */
  constructor(cron: string, timezone: string, clock: Clock) {
    this.#cron = cron;
    this.#timezone = timezone;
    this.#clock = clock;
    this.#isHourless = parse(cron).hour.length === HOURS;
  }

  /** The next `count` after the present moment. */
  next(count: number): readonly number[] {
    return this.#task()
      .getNextRuns(count)
      .map(date => date.getTime());
  }

  /** Those of the last minute. */
  recent(): readonly number[] {
    const second = Math.floor(this.#clock.now() / SECOND_MS);
    if (this.#recent.second !== second) this.#recent = { second, slots: this.#within(second) };
    return this.#recent.slots;
  }

  #within(second: number): readonly number[] {
    const task = this.#task();
    const moments = Array.from({ length: RECENT_S + 1 }, (_, i) => (second - RECENT_S + i) * SECOND_MS);
    return moments.filter(moment => task.match(new Date(moment)));
  }

  /**
   * Of the two hours that are called alike in autumn node-cron knows one. Where every hour counts, it is asked by the offset that the
   * time zone has at present.
   */
  #task(): ScheduledTask {
    const zone = this.#isHourless ? this.#offset() : this.#timezone;
    const task = this.#tasks.get(zone) ?? createTask(this.#cron, () => undefined, { timezone: zone });
    this.#tasks.set(zone, task);
    return task;
  }

  #offset(): string {
    const now = this.#clock.now();
    const minute = Math.floor(now / MINUTE_MS);
    if (this.#zone.minute !== minute) this.#zone = { minute, name: offsetAt(this.#timezone, now) };
    return this.#zone.name;
  }
}

/** Such as `+02:00`. */
function offsetAt(timezone: string, now: number): string {
  const format = new Intl.DateTimeFormat('en', { timeZone: timezone, timeZoneName: 'longOffset' });
  const name = format.formatToParts(now).find(({ type }) => type === 'timeZoneName')?.value ?? '';
  return name.slice('GMT'.length) || 'UTC';
}
