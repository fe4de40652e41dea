import { rm } from 'node:fs/promises';
import type { Options } from '../config/options.ts';
import { toSidecarError } from '../domain/errors.ts';
import { EventBus } from '../domain/events.ts';
import { formatModelUri, type ModelUri } from '../domain/model-uri.ts';
import type { Outcome } from '../domain/outcome.ts';
import { oneLine } from '../http/report.ts';
import { createLogger, streamOf } from '../telemetry/logger.ts';
import { scrubberOf } from '../telemetry/secrets.ts';
import { logEvents } from '../telemetry/subscribe.ts';
import { CommandFailure, type ExitCode, FAILED } from './failure.ts';
import { wholeIn } from './marker.ts';
import { materialize } from './materialize.ts';
import { exitCodeOf, listenForSignals } from './signals.ts';
import { makeAside, prepareTarget, type Target } from './target.ts';

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
  try {
    return await fetchThrough(options, request, target, signals.signal);
  } catch (error) {
    if (signals.signal.aborted) return exitCodeOf(await signals.first);
    return await keepOrFail(error, request.uri, target);
  }
}

async function fetchThrough(
  options: Options,
  request: FetchRequest,
  target: Target,
  signal: AbortSignal,
): Promise<ExitCode> {
  if (request.keepCache) return await fetchInto(options, request, target, signal);
  const cacheDir = await makeAside(target);
  try {
    return await fetchInto({ ...options, cacheDir }, request, target, signal);
  } finally {
    await rm(cacheDir, { recursive: true, force: true });
  }
}

async function fetchInto(
  options: Options,
  { uri, deadlineMs, keepCache }: FetchRequest,
  target: Target,
  signal: AbortSignal,
): Promise<ExitCode> {
  const { fetchOnce } = await import('../app.ts');
  const events = new EventBus();
  // Standard output is for the result.
  logEvents(events, createLogger(options.logLevel, scrubberOf(options), streamOf(2)));
  const { outcome } = await fetchOnce(options, uri, { deadlineMs, signal }, events);
  signal.throwIfAborted();
  if (outcome.path === null) throw failureOf(outcome);
  const { path: snapshot, model_uri, version } = outcome;
  const result = await materialize(
    { snapshot, uri: model_uri, version, mayLink: !keepCache },
    target,
    signal,
  );
  process.stdout.write(`${successWords(outcome, target, result)}\n`);
  return 0;
}

/** MLflow's word that there is no such model, or the operator's that an old one is too old: then none is given. */
class Definite extends CommandFailure {}

function failureOf(outcome: Outcome): CommandFailure {
  const isDefinite = outcome.status === 'missing' || outcome.warning?.code === 'too_stale';
  return new (isDefinite ? Definite : CommandFailure)(failureWords(outcome), FAILED);
}

/** What an earlier fetch put there is better than nothing, where it is whole. */
async function keepOrFail(error: unknown, uri: ModelUri, { dir }: Target): Promise<ExitCode> {
  const modelUri = formatModelUri(uri);
  const kept = error instanceof Definite ? null : await wholeIn(dir, modelUri);
  if (kept === null) throw error;
  const { message } = error instanceof CommandFailure ? error : toSidecarError(error);
  const which = kept.version === null ? modelUri : `${modelUri} (version ${kept.version})`;
  process.stdout.write(
    `⚠️ Kept what an earlier fetch put there: ${oneLine(message)}\n✅ ${which} stays in ${dir}\n`,
  );
  return 0;
}

function failureWords({ model_uri: uri, warning }: Outcome): string {
  if (warning === null) return `could not load ${uri}.`;
  // A server goes on in the background, which this command does not.
  const hint = warning.code === 'deadline_exceeded' ? 'Allow more with --deadline.' : (warning.hint ?? '');
  return `could not load ${uri}: ${warning.code}: ${oneLine([warning.message, hint].join('\n').trim())}`;
}

function successWords(outcome: Outcome, { dir }: Target, result: 'put' | 'up_to_date'): string {
  const which =
    outcome.version === null ? outcome.model_uri : `${outcome.model_uri} (version ${outcome.version})`;
  const done = result === 'put' ? `✅ ${which} -> ${dir}` : `✅ ${which} is up to date in ${dir}`;
  if (outcome.status !== 'stale') return done;
  return `⚠️ The last good version, since ${oneLine(outcome.warning?.message ?? 'MLflow did not answer')}\n${done}`;
}
