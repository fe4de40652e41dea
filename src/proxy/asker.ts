import type { Caller } from '../domain/caller.ts';
import type { Scope } from '../domain/scope.ts';

/** Who asks. */
export interface Asker {
  readonly caller: Caller;
  readonly scope: Scope;
}
