/** Preloaded into a sidecar: what is on the disk looks CLOCK_AHEAD_MS milliseconds older than it is. */
const now = Date.now;
const aheadMs = Number(process.env.CLOCK_AHEAD_MS ?? 0);
Date.now = () => now() + aheadMs;
