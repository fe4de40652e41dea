import { createTask } from 'node-cron';

/** When a schedule is due. */
export interface Slots {
  /** The next `count` of its times after the present one, as milliseconds since 1970. */
  next(count: number): readonly number[];
}

/** As node-cron understands the expression, which it has found valid; it never starts, so it has no timers. */
export function slotsOf(cron: string, timezone: string): Slots {
  const task = createTask(cron, () => undefined, { timezone });
  return { next: count => task.getNextRuns(count).map(date => date.getTime()) };
}
