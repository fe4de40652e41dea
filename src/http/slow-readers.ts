import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

/** A client on the same machine takes an answer of megabytes off in a moment; one that does not keeps it in our memory. */
const READ_WITHIN_MS = 30_000;

/** Cuts off who does not read an answer that is complete, and knows how much is held for such clients. */
export class SlowReaders {
  readonly #readWithinMs: number;
  #unreadBytes = 0;

  constructor(readWithinMs: number = READ_WITHIN_MS) {
    this.#readWithinMs = readWithinMs;
  }

  get unreadBytes(): number {
    return this.#unreadBytes;
  }

  watch(res: ServerResponse): void {
    // All of the answer has been written by then; what the system did not take is what the client left lying.
    res.once('prefinish', () => {
      const { socket } = res;
      if (socket !== null && socket.writableLength > 0) this.#limit(res, socket);
    });
  }

  #limit(res: ServerResponse, socket: Socket): void {
    const bytes = socket.writableLength;
    this.#unreadBytes += bytes;
    const timer = setTimeout(() => socket.destroy(), this.#readWithinMs);
    res.once('close', () => {
      clearTimeout(timer);
      this.#unreadBytes -= bytes;
    });
  }
}
