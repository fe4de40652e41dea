import { Writable } from 'node:stream';
import type { LogLevel } from '../../src/config/options.ts';
import { EventBus, type SidecarEvent } from '../../src/domain/events.ts';
import { createLogger, type Logger } from '../../src/telemetry/logger.ts';
import type { MetricSources } from '../../src/telemetry/metric-sources.ts';
import { Scrubber } from '../../src/telemetry/scrub.ts';
import { logEvents } from '../../src/telemetry/subscribe.ts';

export type Line = Readonly<Record<string, unknown>>;

export interface Log {
  readonly logger: Logger;
  /** What was written, line by line. */
  text(): string;
  lines(): readonly Line[];
}

export function log(scrubber: Scrubber = new Scrubber(), level: LogLevel = 'info'): Log {
  const chunks: string[] = [];
  const stream = new Writable({
    write: (chunk, _encoding, done) => {
      chunks.push(String(chunk));
      done();
    },
  });
  const text = () => chunks.join('');
  const lines = () =>
    text()
      .split('\n')
      .slice(0, -1)
      .map((line): Line => JSON.parse(line));
  return { logger: createLogger(level, scrubber, stream), text, lines };
}

/** Of a sidecar that has nothing and does nothing. */
export const IDLE: MetricSources = {
  models: () => [],
  model: () => null,
  cache: () => ({ usable: true, models: 0, bytes: 0, used_bytes: null, free_bytes: null }),
  work: () => ({ calls: 0, runs: 0, questions: 0, joined: 0 }),
  jobsRunning: () => 0,
  breakers: () => [],
  prewarm: () => [],
  configured: [],
  maxStaleS: 604_800,
  cacheMaxBytes: 1_000,
  version: '1.2.3',
};

/** The lines that these events give. */
export function linesOf(...events: readonly SidecarEvent[]): readonly Line[] {
  const target = log();
  const bus = new EventBus();
  logEvents(bus, target.logger);
  for (const event of events) bus.emit(event);
  return target.lines();
}
