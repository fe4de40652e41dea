import type { ModelUri } from '../../domain/model-uri.ts';
import type { Scope } from '../../domain/scope.ts';
import type { Turns } from '../../policy/turns.ts';
import { BackgroundSaves } from './background-saves.ts';
import { keyOf } from './ref-table.ts';

interface Which {
  readonly scope: Scope;
  readonly uri: ModelUri;
}

/** Saves refs in the background; one that the disk does not take waits for its next change, or for better times. */
export class RefSaves {
  readonly #turns: Turns;
  readonly #write: (scope: Scope, uri: ModelUri) => Promise<void>;
  readonly #onError: (error: Error) => void;
  readonly #saves = new BackgroundSaves();
  readonly #due = new Set<string>();
  readonly #failed = new Map<string, Which>();

  /** @param onError told once, until the disk has taken everything again */
  constructor(
    turns: Turns,
    write: (scope: Scope, uri: ModelUri) => Promise<void>,
    onError: (error: Error) => void,
  ) {
    this.#turns = turns;
    this.#write = write;
    this.#onError = onError;
  }

  schedule(scope: Scope, uri: ModelUri): void {
    const key = keyOf(scope, uri);
    if (this.#due.has(key)) return;
    this.#due.add(key);
    this.#saves.schedule(key, () => this.#save({ scope, uri }));
  }

  /** What the disk did not take so far. */
  again(): void {
    for (const which of this.#failed.values()) this.#save(which);
  }

  /** Starts at once what is due later. */
  hurry(): void {
    this.#saves.hurry();
  }

  #save(which: Which): void {
    const { scope, uri } = which;
    const key = keyOf(scope, uri);
    const work = async () => {
      this.#due.delete(key);
      await this.#saves.save(() => this.#write(scope, uri));
    };
    this.#turns.take(key, work).then(
      () => void this.#failed.delete(key),
      (failure: Error) => {
        if (this.#failed.size === 0) this.#onError(failure);
        this.#failed.set(key, which);
      },
    );
  }
}
