import { formatBytes } from '../domain/bytes.ts';
import type { EventBus, Origin, Phases, SidecarEvent } from '../domain/events.ts';
import { errorFields } from './error-fields.ts';
import { because, callerFields, durations, type Line } from './line.ts';
import type { Logger } from './logger.ts';
import { prewarmed, prewarmSkipped, reloadFinished } from './reload-lines.ts';
import { scrubLine } from './scrub-lines.ts';

/** Writes one line for each event. */
export function logEvents(bus: EventBus, logger: Logger): void {
  bus.subscribe(event => {
    // As many as there are requests; whoever wants to count them has metrics.
    if (event.type === 'proxied' && event.stale === null) return;
    const { level, msg, fields } = lineOf(event);
    logger[level]({ event: event.type, ...fields }, msg);
  });
}

function lineOf(event: SidecarEvent): Line {
  switch (event.type) {
    case 'reload_finished':
      return reloadFinished(event);
    case 'run_finished':
      return runFinished(event);
    case 'run_failed':
      return runFailed(event);
    case 'run_stopped':
      return {
        level: 'info',
        msg: `Stopped on ${subject(event)}, which nobody wants any more.`,
        fields: runFields(event),
      };
    case 'job_begun':
      return jobBegun(event);
    case 'prewarm_finished':
      return prewarmed(event);
    case 'prewarm_skipped':
      return prewarmSkipped(event);
    case 'try_failed':
      return tryFailed(event);
    case 'proxied':
      return proxied(event);
    case 'version_brought':
      return versionBrought(event);
    case 'request_refused': {
      const { caller, method, path } = event;
      return failure(`Refused ${method} ${path}`, event.error, { ...callerFields(caller), method, path });
    }
    case 'requests_shed':
      return failure(`Refused ${event.count} requests`, event.error, { count: event.count });
    case 'cache_recovered':
      return cacheRecovered(event);
    case 'file_system_lacks': {
      const msg = `The file system of the cache lacks ${event.costs.join('. It lacks ')}.`;
      return { level: 'warn', msg, fields: {} };
    }
    case 'cache_collected':
      return cacheCollected(event);
    case 'cache_unusable':
      return { ...failure('The cache does not work', event.error, {}), level: 'error' };
    case 'blob_damaged':
    case 'scrub_finished':
      return scrubLine(event);
    case 'breaker_changed':
      return breakerChanged(event);
  }
}

interface Run {
  readonly origin: Origin;
  readonly version: string | null;
  readonly phases: Phases;
}

function subject({ origin: { modelUri }, version }: Run): string {
  return version === null ? modelUri : `${modelUri} (version ${version})`;
}

/** Whoever waited for a run that found nothing new has said so already. */
function runFinished(event: SidecarEvent & { type: 'run_finished' }): Line {
  const fields = { ...runFields(event), status: event.status };
  if (event.status === 'unchanged')
    return { level: 'debug', msg: `${subject(event)} is up to date.`, fields };
  return { level: 'info', msg: `Fetched and published ${subject(event)}.`, fields };
}

function runFailed(event: SidecarEvent & { type: 'run_failed' }): Line {
  const { error, origin } = event;
  const line = failure(`Could not fetch ${subject(event)}`, error, runFields(event), origin.modelUri);
  // Nothing was tried, and the call that it was begun for says so: an outage has lines enough.
  return line.fields['code'] === 'circuit_open' ? { ...line, level: 'debug' } : line;
}

function runFields({ origin, version, phases }: Run): Line['fields'] {
  return { ...originFields(origin), version, durations_ms: durations(phases) };
}

/** Not `run_id`, which is MLflow's in the answers. */
function originFields({ runId, modelUri, caller }: Origin): Line['fields'] {
  return { ...callerFields(caller), model_uri: modelUri, sidecar_run_id: runId };
}

function jobBegun({ caller, modelUris, isResumed }: SidecarEvent & { type: 'job_begun' }): Line {
  const which = modelUris.length === 1 ? modelUris[0] : `${modelUris.length} models`;
  const verb = isResumed ? 'Goes on with' : 'Began';
  const fields = { ...callerFields(caller), model_uris: modelUris, resumed: isResumed };
  return { level: 'info', msg: `${verb} the asynchronous reload of ${which}`, fields };
}

/** Of what a load asks, those that every load asks once, be it of a registered model or of a logged one. */
const ONE_OF_A_LOAD = new Set(['model-versions/get-download-uri', 'logged-models/*']);

/** One for a load, and the others of the same load for whoever looks closely. */
function proxied({ caller, what, source, stale }: SidecarEvent & { type: 'proxied' }): Line {
  const level = ONE_OF_A_LOAD.has(what) ? 'warn' : 'debug';
  const fields = { ...callerFields(caller), what, source, code: stale };
  return {
    level,
    msg: `Gave a client of MLflow’s what is kept: ${what}, since MLflow did not answer.`,
    fields,
  };
}

function versionBrought({ origin, fetched }: SidecarEvent & { type: 'version_brought' }): Line {
  const { files, bytes } = fetched;
  const msg = `Brought ${origin.modelUri} into the cache while a client loads it (${formatBytes(bytes)}, ${files} files).`;
  return { level: 'info', msg, fields: { ...originFields(origin), files, bytes } };
}

function tryFailed({ what, attempt, origin, error, retryInMs }: SidecarEvent & { type: 'try_failed' }): Line {
  const next = retryInMs === null ? 'no further try' : `next in ${Math.round(retryInMs)} ms`;
  return failure(`Try ${attempt} of ${what} failed (${next})`, error, {
    ...(origin === null ? {} : originFields(origin)),
    what,
    attempt,
    retry_in_ms: retryInMs === null ? null : Math.round(retryInMs),
  });
}

function cacheRecovered({ refs, swept, dropped }: SidecarEvent & { type: 'cache_recovered' }): Line {
  return {
    level: dropped.length > 0 ? 'warn' : 'info',
    msg: `Read the cache. Models: ${refs}; leftovers removed: ${swept}; damaged and thrown away: ${dropped.length}.`,
    fields: { refs, swept, dropped },
  };
}

const SERVERS = {
  registry: 'The registry',
  tracking: 'The tracking server',
  artifacts: 'The artifact server',
};

function breakerChanged(event: SidecarEvent & { type: 'breaker_changed' }): Line {
  const { name, host, from, to, reason } = event;
  const fields = { breaker: name, host, from, to, ...(reason === null ? {} : { reason }) };
  const who = `${SERVERS[name]} ${host}`;
  switch (to) {
    case 'open':
      return { level: 'warn', msg: `${who} is left alone for a while: ${reason ?? 'it failed'}`, fields };
    case 'half-open':
      return { level: 'info', msg: `${who} is asked again, by a trial.`, fields };
    case 'closed':
      return { level: 'info', msg: `${who} is well again.`, fields };
  }
}

function cacheCollected({ snapshots, freedBytes, why }: SidecarEvent & { type: 'cache_collected' }): Line {
  return {
    level: 'info',
    msg: `Collected old versions from the cache. Removed: ${snapshots}; freed: ${formatBytes(freedBytes)}; why: ${why.join(', ')}.`,
    fields: { snapshots, freed_bytes: freedBytes, why },
  };
}

function failure(what: string, error: Error, fields: Line['fields'], subjectUri = ''): Line {
  const words = errorFields(error);
  return {
    level: words.code === 'internal' ? 'error' : 'warn',
    msg: what + because(words.reason, subjectUri),
    fields: { ...fields, ...words },
  };
}
