import { formatModelUri, type ModelUri } from '../../domain/model-uri.ts';
import type { Scope } from '../../domain/scope.ts';
import type { Ref } from './ref-record.ts';
import { Tally } from './tally.ts';

/** A ref as it is kept in memory; `order` is of the registry's answer that it was published or confirmed by. */
export interface Entry {
  readonly scope: Scope;
  readonly ref: Ref;
  readonly order: number;
}

const NOTHING_PUBLISHED = { published: null, previous: null, confirmedAt: null } as const;

/** The refs in memory, of all scopes. */
export class RefTable {
  readonly #entries = new Map<string, Entry>();
  readonly tally = new Tally();

  /** One of which nothing is known, too. */
  get(scope: Scope, uri: ModelUri): Entry {
    const known = this.#entries.get(keyOf(scope, uri));
    return known ?? { scope, order: 0, ref: { ...NOTHING_PUBLISHED, resolved: null, refusedAt: null, uri } };
  }

  /** @param uri a canonical text */
  has(scope: Scope, uri: string): boolean {
    return this.#entries.has(`${scope.id}\n${uri}`);
  }

  get all(): readonly Entry[] {
    return [...this.#entries.values()];
  }

  set(entry: Entry): void {
    const { scope, ref } = entry;
    this.tally.replace(this.get(scope, ref.uri).ref.published, ref.published);
    this.#entries.set(keyOf(scope, ref.uri), entry);
  }

  delete(scope: Scope, uri: ModelUri): void {
    this.tally.replace(this.get(scope, uri).ref.published, null);
    this.#entries.delete(keyOf(scope, uri));
  }
}

export function keyOf(scope: Scope, uri: ModelUri): string {
  return `${scope.id}\n${formatModelUri(uri)}`;
}
