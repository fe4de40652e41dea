const PRELOAD = new URL('../support/preload/fast-clock.mjs', import.meta.url).href;
const FROM = Date.now();

/** The environment of a sidecar for which time goes so many times as fast; one that comes after it goes on from there. */
export function fastClock(times: number, nodeOptions = ''): Readonly<Record<string, string>> {
  return {
    NODE_OPTIONS: `${nodeOptions} --import=${PRELOAD}`.trim(),
    CLOCK_FROM: String(FROM),
    CLOCK_TIMES: String(times),
  };
}
