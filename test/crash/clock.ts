const PRELOAD = new URL('../support/preload/clock-ahead.mjs', import.meta.url).href;

/** The environment of a sidecar for which everything on the disk is so much older than it is. */
export function clockAhead(ms: number, nodeOptions = ''): Readonly<Record<string, string>> {
  return { NODE_OPTIONS: `${nodeOptions} --import=${PRELOAD}`.trim(), CLOCK_AHEAD_MS: String(ms) };
}

const FAST = new URL('../support/preload/fast-clock.mjs', import.meta.url).href;

/** The environment of a sidecar whose wall clock runs so many times as fast. */
export function fastClock(speed: number, nodeOptions = ''): Readonly<Record<string, string>> {
  return { NODE_OPTIONS: `${nodeOptions} --import=${FAST}`.trim(), CLOCK_SPEED: String(speed) };
}
