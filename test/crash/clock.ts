const PRELOAD = new URL('../support/preload/clock-ahead.mjs', import.meta.url).href;

/** The environment of a sidecar for which everything on the disk is so much older than it is. */
export function clockAhead(ms: number, nodeOptions = ''): Readonly<Record<string, string>> {
  return { NODE_OPTIONS: `${nodeOptions} --import=${PRELOAD}`.trim(), CLOCK_AHEAD_MS: String(ms) };
}
