import type { JsonPicker } from './json-picker.ts';
import type { ResponseBody } from './response-body.ts';

export interface PassingAnswerOptions {
  /** What was read of it before it was clear how long it is. */
  readonly first: Uint8Array;
  readonly rest: AsyncGenerator<Uint8Array>;
  readonly body: ResponseBody;
  /** What the other side says, in bytes; null where it does not. */
  readonly length: number | null;
  /** Has had the first part; null where nobody reads what passes. */
  readonly picker: JsonPicker | null;
  /** It is whole, or given up. */
  readonly over: () => void;
}

/** A long answer that goes on as it comes, and of which only what is wanted is read meanwhile. To be taken once, or closed. */
export class PassingAnswer {
  readonly length: number | null;
  readonly #options: PassingAnswerOptions;
  readonly #listeners: ((picked: unknown) => void)[] = [];
  #picker: JsonPicker | null;
  #isOver = false;

  constructor(options: PassingAnswerOptions) {
    this.#options = options;
    this.length = options.length;
    this.#picker = options.picker;
  }

  /** Told what was picked, once it is whole and before its end is handed on; not told of an answer that is no JSON. */
  whenWhole(listener: (picked: unknown) => void): void {
    this.#listeners.push(listener);
  }

  /** @param watch of what comes from the other side, apart from the time that it is read in */
  async *pieces(
    watch: (rest: AsyncIterable<Uint8Array>) => AsyncIterable<Uint8Array>,
  ): AsyncGenerator<Uint8Array> {
    const { first, rest } = this.#options;
    try {
      let left = this.length === null ? Number.POSITIVE_INFINITY : this.length - first.byteLength;
      if (left === 0) this.#tell();
      yield first;
      for await (const piece of watch(rest)) {
        left -= piece.byteLength;
        await this.#read(piece);
        if (left === 0) this.#tell();
        yield piece;
      }
      this.#tell();
    } finally {
      this.close();
    }
  }

  /** Frees the connection of one that nobody takes to its end. */
  close(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#options.body.close();
    // One that is waited for ends by itself, now that its body is closed.
    this.#options.rest.return(undefined).catch(() => undefined);
    this.#options.over();
  }

  /** Whoever asked may have an answer that is too much for us, or that we do not understand. */
  async #read(piece: Uint8Array): Promise<void> {
    await this.#picker?.write(piece).catch(() => {
      this.#picker = null;
    });
  }

  #tell(): void {
    const picker = this.#picker;
    this.#picker = null;
    if (picker === null) return;
    let picked: unknown;
    try {
      picked = picker.end();
    } catch {
      return;
    }
    for (const listener of this.#listeners) listener(picked);
  }
}
