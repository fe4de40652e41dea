import type { IncomingMessage, Server } from 'node:http';
import type { Socket } from 'node:net';

const LOOK_MS = 1_000;
/** What still comes of a body that nobody reads is a trickle below it, and not worth a connection. */
const BYTES_PER_LOOK = 64 * 1024;
/** However fast it comes. */
const LONGEST_MS = 30_000;

interface Leftover {
  readonly req: IncomingMessage;
  readonly endAt: number;
  /** Of the connection, in bytes. */
  seen: number;
}

/**
 * Reads what still comes of requests that are answered, so that their senders come to read the answer: to one that is cut off while
 * it sends, a refusal looks like a failure to try again. No longer than it comes quickly.
 */
export class Leftovers {
  /** One for each connection, and one timer for all: thousands are refused a second, and few have more to send. */
  readonly #bySocket = new Map<Socket, Leftover>();

  constructor(server: Server) {
    const timer = setInterval(() => this.#look(), LOOK_MS).unref();
    server.once('close', () => clearInterval(timer));
  }

  takeOff(req: IncomingMessage): void {
    if (req.complete) return;
    const { socket } = req;
    this.#bySocket.set(socket, { req, endAt: performance.now() + LONGEST_MS, seen: socket.bytesRead });
    req.resume();
  }

  #look(): void {
    const now = performance.now();
    for (const [socket, leftover] of this.#bySocket) {
      const came = socket.bytesRead - leftover.seen;
      leftover.seen += came;
      const isOver = leftover.req.complete || socket.destroyed;
      if (!isOver && came >= BYTES_PER_LOOK && now <= leftover.endAt) continue;
      this.#bySocket.delete(socket);
      if (!isOver) socket.destroy();
    }
  }
}
