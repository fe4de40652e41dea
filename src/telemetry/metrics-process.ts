import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { MetricSet } from './metric-set.ts';

const RESOLUTION_MS = 20;
const QUANTILES = [0.5, 0.99, 1];

/**
 * What a process usually shows, by the usual names. Not the library's own collection of it, which keeps a timer of 100 ms
 * and an observer for ever, counts its own interval as lag, and reads the list of open files while everybody waits.
 * @returns what stops the watch
 */
export function watchProcess(set: MetricSet, version: string): () => void {
  const delays = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  delays.enable();
  set.gauges(
    'mlflow_sidecar_event_loop_lag_seconds',
    'How late timers were since the scrape before.',
    ['quantile'],
    () => {
      const samples = QUANTILES.map(quantile => ({
        labels: { quantile: String(quantile) },
        value: delays.count === 0 ? 0 : lagS(delays.percentile(quantile * 100)),
      }));
      delays.reset();
      return samples;
    },
  );
  set.gauge('process_resident_memory_bytes', 'Memory of the process.', () => process.memoryUsage.rss());
  set.gauge(
    'nodejs_heap_size_used_bytes',
    'JavaScript’s part of it that is in use.',
    () => process.memoryUsage().heapUsed,
  );
  set.countedElsewhere('process_cpu_seconds_total', 'Processor time of the process, user and system.', () => {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1_000_000;
  });
  const startedAt = Date.now() / 1_000 - process.uptime();
  set.gauge(
    'process_start_time_seconds',
    'When the process started, in seconds since 1970.',
    () => startedAt,
  );
  set.gauges(
    'mlflow_sidecar_build_info',
    'The versions of the sidecar and of Node; the value is always 1.',
    ['version', 'node'],
    () => [{ labels: { version, node: process.version }, value: 1 }],
  );
  return () => delays.disable();
}

/** What is measured is the time from one tick to the next, the resolution included. */
function lagS(nanoseconds: number): number {
  return Math.max(0, nanoseconds / 1e9 - RESOLUTION_MS / 1_000);
}
