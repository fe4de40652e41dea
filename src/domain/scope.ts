import { createHash } from 'node:crypto';
import type { Caller } from './caller.ts';

/**
 * Whose view of which registry. What one credential fetched is not given to another, and two registries never mix:
 * every key in the cache begins with the scope's id.
 */
export interface Scope {
  readonly id: string;
  /** The configured registry and workspace with the sidecar's own credential: the one that `models/` and `refs/` show. */
  readonly own: boolean;
}

/** Of a caller at the configured registry and workspace. */
export function scopeOfCaller(
  { registryUri, workspace }: { readonly registryUri: string; readonly workspace: string | null },
  caller: Pick<Caller, 'authorization' | 'workspace'>,
): Scope {
  const theirs = caller.workspace ?? workspace;
  const { id, own } = scopeOf(registryUri, theirs, caller.authorization);
  return { id, own: own && theirs === workspace };
}

export function scopeOf(registryUri: string, workspace: string | null, authorization: string | null): Scope {
  const parts = JSON.stringify([registryUri, workspace, authorization]);
  const id = createHash('sha256').update(parts).digest('hex').slice(0, 32);
  return { id, own: authorization === null };
}
