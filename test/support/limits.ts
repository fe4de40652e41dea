/** Whether times are held to what is promised, to the millisecond: `npm run chaos`, on a machine that does nothing else. */
export const IS_STRICT = process.env['CHAOS'] !== undefined;

/** A busy machine is late by seconds. What nothing ends goes on for longer. */
const ROOM_MS = 10_000;

/** Milliseconds that what is promised within `ms` may take here: so many in `npm run chaos`, and with room for a busy machine in `npm test`. */
export function atMost(ms: number, roomMs = ROOM_MS): number {
  return IS_STRICT ? ms : ms + roomMs;
}

/**
 * Milliseconds of processor time that `work` costs this process: what others do on the machine takes time, but does not count.
 */
export async function processorMs(work: () => unknown): Promise<number> {
  const before = process.cpuUsage();
  await work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1_000;
}

/** How long `vi.waitFor` waits for what is to come. */
export const SOON = { timeout: 20_000 };
