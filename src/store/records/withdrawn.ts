import { SidecarError } from '../../domain/errors.ts';

/** Snapshots found damaged, which are not given again until they have been made anew. */
export class Withdrawn {
  readonly #ids = new Set<string>();

  add(snapshots: readonly string[]): void {
    for (const id of snapshots) this.#ids.add(id);
  }

  has(snapshot: string | undefined): boolean {
    return snapshot !== undefined && this.#ids.has(snapshot);
  }

  /** It was made anew, and is whole. */
  readmit(snapshot: string): void {
    this.#ids.delete(snapshot);
  }

  get all(): readonly string[] {
    return [...this.#ids];
  }

  /** @throws SidecarError for one of them */
  refuse(snapshot: string): void {
    if (!this.#ids.has(snapshot)) return;
    throw new SidecarError('artifact_corrupt', 'What was cached of this version was just found damaged.', {
      hint: 'Ask again: it is fetched anew.',
    });
  }
}
