import { formatModelUri, type ModelUri, refKey } from '../../domain/model-uri.ts';
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

/** Paths of runs and the like that were asked for, and of which nothing could ever be had. */
const MOST_EMPTY = 1_000;

/** Whether nothing is known that a restart would miss. */
export function isEmpty({ published, previous, refusedAt }: Ref): boolean {
  return published === null && previous === null && refusedAt === null;
}

/** The refs in memory, of all scopes. */
export class RefTable {
  readonly #entries = new Map<string, Entry>();
  readonly #scopes = new Map<string, KeysByName>();
  /** Those of which nothing could be had, the one that was noted longest ago first. */
  readonly #empty = new Set<string>();
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

  /** Of all models that have refs, sorted. */
  names(scope: Scope): readonly string[] {
    return this.#scopes.get(scope.id)?.names ?? [];
  }

  named(scope: Scope, name: string): readonly Ref[] {
    const keys = this.#scopes.get(scope.id)?.of(name) ?? [];
    return [...keys].flatMap(key => this.#entries.get(key)?.ref ?? []);
  }

  set(entry: Entry): void {
    const { scope, ref } = entry;
    this.tally.replace(this.get(scope, ref.uri).ref.published, ref.published);
    const key = keyOf(scope, ref.uri);
    if (!this.#entries.has(key)) this.#index(scope, ref.uri, key);
    this.#entries.set(key, entry);
    this.#empty.delete(key);
    if (isEmpty(ref)) this.#addEmpty(key);
  }

  delete(scope: Scope, uri: ModelUri): void {
    this.tally.replace(this.get(scope, uri).ref.published, null);
    const key = keyOf(scope, uri);
    this.#empty.delete(key);
    if (!this.#entries.delete(key)) return;
    const keys = this.#scopes.get(scope.id);
    keys?.delete(refKey(uri).name, key);
    if (keys?.size === 0) this.#scopes.delete(scope.id);
  }

  #addEmpty(key: string): void {
    this.#empty.add(key);
    const [oldest] = this.#empty;
    const entry = oldest === undefined ? undefined : this.#entries.get(oldest);
    if (entry !== undefined && this.#empty.size > MOST_EMPTY) this.delete(entry.scope, entry.ref.uri);
  }

  #index(scope: Scope, uri: ModelUri, key: string): void {
    const keys = this.#scopes.get(scope.id) ?? new KeysByName();
    this.#scopes.set(scope.id, keys);
    keys.add(refKey(uri).name, key);
  }
}

/** The refs of one scope by their models, so that nobody who asks for them sorts ten thousand. */
class KeysByName {
  readonly #keys = new Map<string, Set<string>>();
  /** Null since a name came or went. */
  #names: readonly string[] | null = null;

  get size(): number {
    return this.#keys.size;
  }

  get names(): readonly string[] {
    this.#names ??= [...this.#keys.keys()].toSorted();
    return this.#names;
  }

  of(name: string): Iterable<string> {
    return this.#keys.get(name) ?? [];
  }

  add(name: string, key: string): void {
    const keys = this.#keys.get(name);
    if (keys !== undefined) return void keys.add(key);
    this.#keys.set(name, new Set([key]));
    this.#names = null;
  }

  delete(name: string, key: string): void {
    const keys = this.#keys.get(name);
    keys?.delete(key);
    if (keys?.size !== 0) return;
    this.#keys.delete(name);
    this.#names = null;
  }
}

export function keyOf(scope: Scope, uri: ModelUri): string {
  return `${scope.id}\n${formatModelUri(uri)}`;
}
