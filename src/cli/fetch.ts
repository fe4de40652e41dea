import { rm } from 'node:fs/promises';
import type { Options } from '../config/options.ts';
import { EventBus } from '../domain/events.ts';
import type { ModelUri } from '../domain/model-uri.ts';
import type { Outcome } from '../domain/outcome.ts';
import { oneLine } from '../http/report.ts';
import { createLogger, streamOf } from '../telemetry/logger.ts';
import { scrubberOf } from '../telemetry/secrets.ts';
import { logEvents } from '../telemetry/subscribe.ts';
import { CommandFailure, type ExitCode, FAILED } from './failure.ts';
import { makeAside, materialize, prepareTarget, type Target } from './materialize.ts';
import { exitCodeOf, listenForSignals } from './signals.ts';

/** To remove what was built, after the first signal. */
const GRACE_MS = 5_000;

export interface FetchRequest {
  readonly uri: ModelUri;
  readonly to: string;
  readonly deadlineMs: number;
  /** Where the cache was named, models are kept in it; else they pass through one that is removed afterwards. */
  readonly keepCache: boolean;
}

/** Loads one model without a server, and puts it into a directory. */
export async function fetchTo(options: Options, request: FetchRequest): Promise<ExitCode> {
  const signals = listenForSignals(GRACE_MS);
  const target = await prepareTarget(request.to);
  const cacheDir = request.keepCache ? options.cacheDir : await makeAside(target);
  try {
    return await fetchInto({ ...options, cacheDir }, request, target, signals.signal);
  } catch (error) {
    if (signals.signal.aborted) return exitCodeOf(await signals.first);
    throw error;
  } finally {
    if (!request.keepCache) await rm(cacheDir, { recursive: true, force: true });
  }
}

async function fetchInto(
  options: Options,
  { uri, deadlineMs }: FetchRequest,
  target: Target,
  signal: AbortSignal,
): Promise<ExitCode> {
  const { fetchOnce } = await import('../app.ts');
  const events = new EventBus();
  // Standard output is for the result.
  logEvents(events, createLogger(options.logLevel, scrubberOf(options), streamOf(2)));
  const { outcome } = await fetchOnce(options, uri, { deadlineMs, signal }, events);
  signal.throwIfAborted();
  if (outcome.path === null) throw new CommandFailure(failureWords(outcome), FAILED);
  const result = await materialize(outcome.path, target, signal);
  process.stdout.write(`${successWords(outcome, target, result)}\n`);
  return 0;
}

function failureWords({ model_uri: uri, warning }: Outcome): string {
  if (warning === null) return `could not load ${uri}.`;
  return `could not load ${uri}: ${warning.code}: ${oneLine([warning.message, warning.hint ?? ''].join('\n').trim())}`;
}

function successWords(outcome: Outcome, { dir }: Target, result: 'put' | 'up_to_date'): string {
  const which =
    outcome.version === null ? outcome.model_uri : `${outcome.model_uri} (version ${outcome.version})`;
  const done = result === 'put' ? `✅ ${which} -> ${dir}` : `✅ ${which} is up to date in ${dir}`;
  if (outcome.status !== 'stale') return done;
  return `⚠️ The last good version, since ${oneLine(outcome.warning?.message ?? 'MLflow did not answer')}\n${done}`;
}
