import type { SidecarEvent } from '../domain/events.ts';
import type { ModelUri } from '../domain/model-uri.ts';
import type { ModelSummary } from '../reload/api.ts';

const MAX_NAMES = 500;

/** What every model is called that has no label of its own. */
export const OTHER = 'other';

/**
 * Which models have a label of their own: those that are configured, and those that the sidecar's own credential has put
 * into the cache. Names that somebody only asks for make no series.
 */
export class ModelLabels {
  readonly #names: Set<string>;

  constructor(configured: readonly ModelUri[]) {
    this.#names = new Set(configured.flatMap(uri => ('name' in uri ? uri.name : [])).slice(0, MAX_NAMES));
  }

  /** What the cache shows; runs and logged models have no name to count by. */
  learn(models: Iterable<ModelSummary>): void {
    for (const { name, refs } of models) {
      if (this.#names.size >= MAX_NAMES) return;
      if (refs.some(ref => ref.version !== null)) this.#add(name);
    }
  }

  of({ caller, outcome }: SidecarEvent & { type: 'reload_finished' }): string {
    const { name, path } = outcome;
    if (name === null) return OTHER;
    if (path !== null && caller.authorization === null) this.#add(name);
    return this.#names.has(name) ? name : OTHER;
  }

  #add(name: string): void {
    if (this.#names.size < MAX_NAMES) this.#names.add(name);
  }
}
