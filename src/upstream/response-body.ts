import { setImmediate as turn } from 'node:timers/promises';

/** Handed out at most. Larger buffers are as quick, and glibc's heap grows by more than they are: 15 MB with 320 KiB. */
const CAPACITY = 256 * 1024;
/** What a socket still gives after it was told to pause, two of its chunks, fits into what is left. */
const PAUSE_AT = CAPACITY - 128 * 1024;
/** Kept for the next body: two for each of the files in flight. */
const MOST_SPARE = 32;

/** Of the connection that a body comes on. */
export interface Flow {
  pause(): void;
  resume(): void;
  abort(reason: Error): void;
}

/**
 * Buffers that bodies take in turn. A new one for each body would be old when that ends, and swept with the whole heap only, as
 * would be a socket's chunks, which is why they are copied as they come.
 */
export class Buffers {
  readonly #spare: Buffer[] = [];

  /** @param size in bytes, where it is known */
  take(size: number | null): Buffer {
    if (size !== null && size < CAPACITY) return Buffer.allocUnsafeSlow(size);
    return this.#spare.pop() ?? Buffer.allocUnsafeSlow(CAPACITY);
  }

  give(buffer: Buffer): void {
    if (buffer.byteLength === CAPACITY && this.#spare.length < MOST_SPARE) this.#spare.push(buffer);
  }
}

/**
 * The body of an answer, in pieces of what came meanwhile. A piece is valid until the next one is asked for: while its reader has
 * one, the next one fills, and then the connection pauses.
 */
export class ResponseBody implements AsyncIterable<Uint8Array> {
  readonly #flow: Flow;
  readonly #buffers: Buffers;
  readonly #size: number | null;
  #filling: Buffer | null = null;
  #filled = 0;
  /** With the reader. */
  #lent: Buffer | null = null;
  #isPaused = false;
  #end: { readonly error: unknown } | 'whole' | null = null;
  #wake: (() => void) | null = null;

  /** @param size what the other side says, in bytes */
  constructor(size: number | null, flow: Flow, buffers: Buffers) {
    this.#size = size;
    this.#flow = flow;
    this.#buffers = buffers;
  }

  push(chunk: Uint8Array): void {
    if (this.#end !== null) return;
    this.#filling ??= this.#buffers.take(this.#size);
    if (this.#filled + chunk.byteLength > this.#filling.byteLength) this.#grow(chunk.byteLength);
    this.#filling.set(chunk, this.#filled);
    this.#filled += chunk.byteLength;
    if (this.#filled >= PAUSE_AT && !this.#isPaused) {
      this.#isPaused = true;
      this.#flow.pause();
    }
    this.#wake?.();
  }

  /** Every byte has come. */
  finish(): void {
    this.#end ??= 'whole';
    this.#wake?.();
  }

  /** No more bytes will come; the reader gets those that have, and then this. */
  fail(error: unknown): void {
    this.#end ??= { error };
    this.#wake?.();
  }

  /** Frees the connection of a body that nobody reads to its end. */
  close(): void {
    if (this.#end !== null) return;
    const error = new Error('The body was not read to its end.');
    this.fail(error);
    this.#flow.abort(error);
    if (this.#filling !== null) this.#buffers.give(this.#filling);
    this.#filling = null;
    this.#filled = 0;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    try {
      for (;;) {
        if (this.#filled > 0) {
          await this.#gather();
          yield this.#lend();
        } else if (this.#end === 'whole') return;
        else if (this.#end !== null) throw this.#end.error;
        else await this.#more();
        this.#takeBack();
      }
    } finally {
      this.#takeBack();
      this.close();
    }
  }

  /** As long as each turn of the event loop brings more: a write for each chunk of a socket costs more than the bytes. */
  async #gather(): Promise<void> {
    const enough = Math.min(PAUSE_AT, this.#size ?? PAUSE_AT);
    for (let before = 0; this.#end === null && this.#filled < enough && this.#filled > before; ) {
      before = this.#filled;
      await turn();
    }
  }

  #lend(): Uint8Array {
    const piece = (this.#filling ?? Buffer.alloc(0)).subarray(0, this.#filled);
    this.#lent = this.#filling;
    this.#filling = null;
    this.#filled = 0;
    if (this.#isPaused && this.#end === null) {
      this.#isPaused = false;
      this.#flow.resume();
    }
    return piece;
  }

  #takeBack(): void {
    if (this.#lent !== null) this.#buffers.give(this.#lent);
    this.#lent = null;
  }

  async #more(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#wake = resolve;
    await promise;
    this.#wake = null;
  }

  /** Where more comes at once than expected. */
  #grow(by: number): void {
    const larger = Buffer.allocUnsafeSlow(Math.max(CAPACITY, this.#filled + by));
    if (this.#filling !== null) {
      larger.set(this.#filling.subarray(0, this.#filled));
      this.#buffers.give(this.#filling);
    }
    this.#filling = larger;
  }
}
