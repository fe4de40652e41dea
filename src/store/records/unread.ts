import type { Scope } from '../../domain/scope.ts';
import { unlessRunning } from '../../policy/abort.ts';
import { readRecord } from './records.ts';
import { scopeOfRecord, type Unreadable } from './recover.ts';
import type { Refs } from './refs.ts';

const AGAIN_MS = 5_000;

/** Records that the disk did not give at the start: they are read again until it does. */
export class Unread {
  readonly #own: Scope;
  readonly #refs: Refs;
  readonly #timer: NodeJS.Timeout;
  #records: readonly Unreadable[] = [];

  constructor(own: Scope, refs: Refs) {
    this.#own = own;
    this.#refs = refs;
    const look = unlessRunning(() => this.#look());
    this.#timer = setInterval(look, AGAIN_MS).unref();
  }

  /** From now on. */
  set(records: readonly Unreadable[]): void {
    this.#records = records;
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  async #look(): Promise<void> {
    const left: Unreadable[] = [];
    for (const { path } of this.#records) {
      try {
        const record = await readRecord(path);
        if (record !== null) await this.#refs.recall(scopeOfRecord(record, this.#own), record.ref.uri);
      } catch (error) {
        left.push({ path, error });
      }
    }
    this.#records = left;
  }
}
