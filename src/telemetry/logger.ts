import { type DestinationStream, destination, type Logger, pino, stdTimeFunctions } from 'pino';
import type { LogLevel } from '../config/options.ts';
import { errorFields } from './error-fields.ts';
import type { Scrubber } from './scrub.ts';

export type { Logger } from 'pino';

/**
 * JSON lines with an ISO time and the level's name. Nothing but an error's own words is taken from an `err`.
 * To standard output by default.
 */
export function createLogger(
  level: LogLevel,
  scrubber: Scrubber,
  stream: DestinationStream = streamOf(1),
): Logger {
  return pino(
    {
      level,
      base: null,
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: label => ({ level: label }) },
      serializers: { err: errorFields },
      hooks: { streamWrite: line => scrubber.scrubLine(line) },
    },
    stream,
  );
}

/** Standard output (1) or standard error (2), synchronously: asynchronous destinations lose lines when the process ends. */
export function streamOf(fd: 1 | 2): DestinationStream {
  return destination({ fd, sync: true });
}
