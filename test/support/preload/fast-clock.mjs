/** Preloaded into a sidecar: since CLOCK_FROM (ms since 1970) time has been going CLOCK_TIMES times as fast. */
const now = Date.now;
const from = Number(process.env.CLOCK_FROM);
const times = Number(process.env.CLOCK_TIMES);
Date.now = () => Math.floor(from + (now() - from) * times);
