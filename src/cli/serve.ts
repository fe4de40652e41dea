import type { Options } from '../config/options.ts';
import { errnoOf } from '../domain/errors.ts';
import { EventBus } from '../domain/events.ts';
import { ListenFailure } from '../http/listen.ts';
import { createLogger, LineBuffer, type Logger } from '../telemetry/logger.ts';
import { scrubberOf } from '../telemetry/secrets.ts';
import { logEvents } from '../telemetry/subscribe.ts';
import { CommandFailure, type ExitCode, FAILED } from './failure.ts';
import { areThreadsHung, type EndSignal, endBySignal, listenForSignals, type Signals } from './signals.ts';

/** Kubernetes and Docker kill after 10 s or more; the promise is 5 s, the last half second being for the log. */
const STOP_MS = 4_500;
const FLUSH_MS = 400;
const BLOCKED_MS = 50;
/** For reads that nobody waits for any more. */
const THREADS_MS = 200;
const GRACE_MS = 5_000;

/** Runs until SIGTERM or SIGINT. */
export async function serve(options: Options, warnings: readonly string[]): Promise<ExitCode> {
  const signals = listenForSignals(GRACE_MS);
  const log = new LineBuffer(process.stdout, lines => {
    logger.error(
      { lines_dropped: lines },
      `${lines} lines of this log were dropped here, since nobody read it.`,
    );
  });
  const logger = createLogger(options.logLevel, scrubberOf(options), log);
  endOnCrash(logger, log);
  for (const warning of warnings) logger.warn(warning);
  try {
    return await serveUntil(signals, options, logger, log);
  } finally {
    await flush(log);
  }
}

async function serveUntil(
  signals: Signals,
  options: Options,
  logger: Logger,
  log: LineBuffer,
): Promise<ExitCode> {
  const events = new EventBus();
  logEvents(events, logger);
  const { startApp } = await import('../app.ts');
  const app = await startApp(options, events).catch((error: unknown) => {
    throw startFailure(error);
  });
  const metrics = app.metricsUrl === null ? {} : { metrics_url: app.metricsUrl };
  logger.info({ url: app.url, ...metrics, cache_dir: options.cacheDir }, `Listening on ${app.url}`);
  const name = await signals.first;
  logger.info(`Stopping, since ${name} came.`);
  const isWhole = await app.stop(AbortSignal.timeout(STOP_MS));
  if (!isWhole || (await areThreadsHung(THREADS_MS))) return await endHung(name, logger, log);
  logger.info('Stopped.');
  return 0;
}

/** What nobody foresaw leaves the state of the process unknown: it ends, and whoever started it starts it again. */
function endOnCrash(logger: Logger, log: LineBuffer): void {
  const end = async (): Promise<void> => {
    await flush(log);
    process.exit(FAILED);
  };
  process.setUncaughtExceptionCaptureCallback(null);
  process.setUncaughtExceptionCaptureCallback(error => {
    logger.fatal(
      { err: error },
      `The sidecar ends, because of an error that nobody foresaw: ${error.message}`,
    );
    void end();
  });
}

/** The usual end would wait for the threads that hang. */
async function endHung(name: EndSignal, logger: Logger, log: LineBuffer): Promise<ExitCode> {
  logger.warn('Stopped, without waiting for the disk, which does not answer.');
  await log.flush(FLUSH_MS);
  endBySignal(name);
  return FAILED;
}

async function flush(log: LineBuffer): Promise<void> {
  await log.flush(FLUSH_MS);
  if (await log.isBlocked(BLOCKED_MS)) endBySignal('SIGTERM');
}

function startFailure(error: unknown): CommandFailure {
  if (!(error instanceof ListenFailure)) {
    const message = error instanceof Error ? error.message : String(error);
    return new CommandFailure(`could not start: ${message}`, FAILED, error);
  }
  const { at, setBy } = error;
  const advice = LISTEN_ADVICE[errnoOf(error.cause)]?.(setBy) ?? error.message;
  return new CommandFailure(
    `cannot listen on ${at.host ?? 'every address'}, port ${at.port}: ${advice}`,
    FAILED,
    error,
  );
}

const LISTEN_ADVICE: Readonly<Record<string, (setBy: ListenFailure['setBy']) => string>> = {
  EADDRINUSE: ({ port }) =>
    `something else listens there, perhaps another sidecar. Stop it, or choose another port with ${port}.`,
  EADDRNOTAVAIL: ({ host }) => `this machine has no such address. Set ${host} to one of its own.`,
  ENOTFOUND: ({ host }) => `this host name is not known. Set ${host} to an address of this machine.`,
  EACCES: ({ port }) => `this user may not. Choose a port from 1024 on with ${port}.`,
};
