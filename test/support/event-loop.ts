import { parseExposition, sampleOf } from './exposition.ts';

/** By the sidecar's own measure: how late a timer was at most, in milliseconds, since it was asked last. */
export async function longestStallMs(url: string): Promise<number> {
  const families = parseExposition(await (await fetch(`${url}/metrics`)).text());
  const seconds = sampleOf(families, 'mlflow_sidecar_event_loop_lag_seconds', { quantile: '1' });
  if (seconds === null) throw new Error('The sidecar does not say how late its timers were.');
  return Math.round(seconds * 1_000);
}
