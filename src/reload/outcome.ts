import { formatModelUri, refKey } from '../domain/model-uri.ts';
import { type BreakerState, noteRetryAfter, type Outcome, warningOf } from '../domain/outcome.ts';
import type { Scope } from '../domain/scope.ts';
import type { Ref } from '../store/records/ref-record.ts';
import type { Store } from '../store/store.ts';
import type { ReloadRequest } from './api.ts';
import type { Verdict } from './verdict.ts';

/** What is known of a call besides its verdict. Times in milliseconds. */
export interface Account {
  readonly request: ReloadRequest;
  readonly scope: Scope;
  readonly mlflowUri: string;
  readonly before: Ref | null;
  readonly after: Ref | null;
  readonly attempts: number;
  readonly durationMs: number;
  /** The worst one's of the breakers that it had to pass. */
  readonly breaker: BreakerState;
  readonly now: number;
}

const LAZY_LOADED = 'The model will be lazy-loaded on first prediction.';

/** Writes a call's verdict out as the contract's outcome. */
export function toOutcome(verdict: Verdict, account: Account, layout: Store['layout'] | null): Outcome {
  const { request, before, after } = account;
  const { name, version, ...given } = givenFields(verdict, account, layout);
  const outcome: Outcome = {
    status: verdict.kind === 'given' ? verdict.status : verdict.kind,
    model_uri: formatModelUri(request.uri),
    mlflow_uri: account.mlflowUri,
    name,
    version,
    wanted_version: 'wanted' in verdict ? verdict.wanted : null,
    previous_version: before?.published?.version.version ?? null,
    changed: (after?.published?.snapshot ?? null) !== (before?.published?.snapshot ?? null),
    ...given,
    duration_s: Math.round(account.durationMs) / 1_000,
    attempts: account.attempts,
    breaker: account.breaker,
    refreshing: 'refreshing' in verdict && verdict.refreshing,
    job_id: request.caller.jobId ?? null,
    warning: warningFor(verdict),
    request_id: request.caller.requestId,
  };
  if (verdict.kind === 'failed') noteRetryAfter(outcome, verdict.error);
  return outcome;
}

/** What was given, or the same fields with nothing in them. */
function givenFields(
  verdict: Verdict,
  { request, scope, after, now }: Account,
  layout: Store['layout'] | null,
) {
  const published = verdict.kind === 'given' || verdict.kind === 'stale' ? (after?.published ?? null) : null;
  if (published === null || layout === null)
    return { ...NOTHING, name: 'name' in request.uri ? request.uri.name : null };
  const { version } = published;
  const confirmedAt = after?.confirmedAt ?? now;
  return {
    name: version.name,
    version: version.version,
    stage: version.stage,
    aliases: shown(version.aliases),
    run_id: version.runId,
    model_id: version.modelId,
    created: version.createdMs === null ? null : version.createdMs / 1_000,
    path: layout.snapshot(published.snapshot),
    ref_path: scope.own ? layout.refPath(refKey(request.uri)) : null,
    digest: published.digest,
    files: published.files,
    bytes: published.bytes,
    source: verdict.kind === 'given' ? verdict.source : ('cache' as const),
    age_s: verdict.kind === 'given' ? 0 : Math.max(0, Math.round(now - confirmedAt) / 1_000),
  };
}

/** As many aliases as leave an outcome under 4 KB. */
const MAX_ALIASES_BYTES = 500;

function shown(aliases: readonly string[]): string[] {
  let bytes = 0;
  return aliases.filter(alias => {
    bytes += Buffer.byteLength(alias);
    return bytes <= MAX_ALIASES_BYTES;
  });
}

const NOTHING = {
  version: null,
  stage: null,
  aliases: [],
  run_id: null,
  model_id: null,
  created: null,
  path: null,
  ref_path: null,
  digest: null,
  files: null,
  bytes: null,
  source: null,
  age_s: null,
};

function warningFor(verdict: Verdict): Outcome['warning'] {
  if (verdict.kind === 'given') return null;
  const warning = warningOf(verdict.error);
  if (verdict.kind !== 'failed') return warning;
  return { ...warning, hint: warning.hint === null ? LAZY_LOADED : `${warning.hint} ${LAZY_LOADED}` };
}
