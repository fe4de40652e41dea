import { ask, problemOf, type Sidecar } from './client.ts';
import { CommandFailure, type ExitCode, FAILED } from './failure.ts';

/** On top of the deadline, so that the sidecar's own word about it arrives. */
const MARGIN_MS = 5_000;

/** Without a deadline of ours the sidecar takes its own, at most this unless it was told otherwise. */
const SIDECARS_OWN_LIMIT_S = 600;

export interface ReloadFlags {
  readonly onFailure: 'warn' | 'fail';
  /** In seconds; without one the sidecar's own holds. */
  readonly deadline?: number;
  readonly force: boolean;
}

/** Has a running sidecar reload, and prints its report. */
export async function reload(
  sidecar: Sidecar,
  uris: readonly string[],
  flags: ReloadFlags,
): Promise<ExitCode> {
  const answer = await ask(sidecar, {
    method: 'POST',
    path: '/v1/reload',
    accept: 'text/plain',
    body: JSON.stringify({ ...whatToReload(uris), ...fieldsOf(flags) }),
    timeoutMs: (flags.deadline ?? SIDECARS_OWN_LIMIT_S) * 1_000 + MARGIN_MS,
  });
  if (answer.type !== 'text/plain') throw new CommandFailure(`${sidecar.url} ${problemOf(answer)}`);
  process.stdout.write(answer.text.endsWith('\n') ? answer.text : `${answer.text}\n`);
  return answer.status === 200 ? 0 : FAILED;
}

function whatToReload(uris: readonly string[]): object {
  if (uris.length === 0) return {};
  return uris.length === 1 ? { model_uri: uris[0] } : { model_uris: uris };
}

function fieldsOf({ onFailure, deadline, force }: ReloadFlags): object {
  return {
    on_failure: onFailure,
    ...(deadline === undefined ? {} : { deadline_s: deadline }),
    ...(force ? { force } : {}),
  };
}
