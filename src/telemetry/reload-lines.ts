import type { SidecarEvent } from '../domain/events.ts';
import { formatModelUri } from '../domain/model-uri.ts';
import type { Outcome } from '../domain/outcome.ts';
import { because, callerFields, durations, type Level, type Line } from './line.ts';

export function reloadFinished({
  caller,
  outcome,
  runId,
  phases,
}: SidecarEvent & { type: 'reload_finished' }): Line {
  const { warning } = outcome;
  const fields = {
    ...callerFields(caller),
    model_uri: outcome.model_uri,
    version: outcome.version,
    ...(outcome.wanted_version === null ? {} : { wanted_version: outcome.wanted_version }),
    sidecar_run_id: runId,
    status: outcome.status,
    duration_ms: Math.round(outcome.duration_s * 1_000),
    durations_ms: durations(phases),
    attempts: outcome.attempts,
    age_s: outcome.age_s,
    refreshing: outcome.refreshing,
    ...(warning === null ? {} : { code: warning.code, reason: warning.message, hint: warning.hint }),
  };
  const why = warning === null ? '' : because(warning.message, outcome.model_uri);
  // The pre-warming has a line of its own.
  const level = caller.prewarm === undefined ? levelOf(outcome) : 'debug';
  return { level, msg: reloadWords(outcome) + why, fields };
}

const PREWARM_WORDS = { schedule: 'By schedule', warmup: 'At the start' } as const;

export function prewarmed({ reason, outcome }: SidecarEvent & { type: 'prewarm_finished' }): Line {
  const { model_uri, version, status, duration_s, warning, request_id } = outcome;
  const fields = {
    request_id,
    model_uri,
    version,
    status,
    reason,
    duration_ms: Math.round(duration_s * 1_000),
  };
  const why = warning === null ? '' : because(warning.message, model_uri);
  // Most find nothing new; and with the breaker open nothing is tried for any model: an outage has lines enough.
  const isQuiet = status === 'unchanged' || warning?.code === 'circuit_open';
  const level = isQuiet ? 'debug' : levelOf(outcome);
  return {
    level,
    msg: `${PREWARM_WORDS[reason]}: ${reloadWords(outcome)}${why}`,
    fields: warning === null ? fields : { ...fields, code: warning.code, hint: warning.hint },
  };
}

export function prewarmSkipped({ model }: SidecarEvent & { type: 'prewarm_skipped' }): Line {
  const uri = formatModelUri(model);
  const msg = `Left out a time of the schedule of ${uri}, since the run before is not over.`;
  return { level: 'warn', msg, fields: { model_uri: uri } };
}

function levelOf({ status, warning }: Outcome): Level {
  if (warning?.code === 'internal') return 'error';
  return status === 'loaded' || status === 'unchanged' ? 'info' : 'warn';
}

function reloadWords({ status, model_uri: uri, version }: Outcome): string {
  const which = version === null ? uri : `${uri} (version ${version})`;
  switch (status) {
    case 'loaded':
      return `Loaded ${which}`;
    case 'unchanged':
      return `${which} is up to date`;
    case 'stale':
      return `Gave the last good model for ${which}`;
    case 'missing':
      return `There is no ${uri}`;
    case 'failed':
      return `Could not load ${uri}`;
  }
}
