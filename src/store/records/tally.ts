import type { Published } from './ref-record.ts';

/** How much is published, kept up to date as it changes: with many refs counting them takes a while. */
export class Tally {
  readonly #refs = new Map<string, number>();
  /** Refs that have something to give. */
  models = 0;
  /** Of all snapshots that they give, each once. */
  bytes = 0;

  replace(before: Published | null, after: Published | null): void {
    if (before !== null) this.#add(before, -1);
    if (after !== null) this.#add(after, 1);
  }

  #add({ snapshot, bytes }: Published, change: 1 | -1): void {
    const refs = this.#refs.get(snapshot) ?? 0;
    const left = refs + change;
    this.models += change;
    if (refs === 0 || left === 0) this.bytes += change * bytes;
    if (left === 0) this.#refs.delete(snapshot);
    else this.#refs.set(snapshot, left);
  }
}
