import { write } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { type DestinationStream, destination, type Logger, pino, stdTimeFunctions } from 'pino';
import type { LogLevel } from '../config/options.ts';
import { TOO_LATE, within } from '../policy/abort.ts';
import { errorFields } from './error-fields.ts';
import type { Scrubber } from './scrub.ts';

export type { Logger } from 'pino';

/**
 * JSON lines with an ISO time and the level's name. Nothing but an error's own words is taken from an `err`.
 * To standard output by default.
 */
export function createLogger(
  level: LogLevel,
  scrubber: Scrubber,
  stream: DestinationStream = streamOf(1),
): Logger {
  return pino(
    {
      level,
      base: null,
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: label => ({ level: label }) },
      serializers: { err: errorFields },
      hooks: { streamWrite: line => scrubber.scrubLine(line) },
    },
    stream,
  );
}

/**
 * Standard output (1) or standard error (2), synchronously: no line is lost when the process ends, but a pipe that nobody
 * reads stops the process. What must go on then writes to a `LineBuffer`.
 */
export function streamOf(fd: 1 | 2): DestinationStream {
  return destination({ fd, sync: true });
}

/** Some thousands of lines: enough for a reader that is slow for a while. */
const MAX_BUFFER_BYTES = 1_048_576;
/** Linux' PIPE_BUF: a pipe takes a write of this size whole or not at all, so that no line is cut or torn apart. */
const WHOLE_BYTES = 4_096;
/** Short, since a full buffer is 16 times what a pipe of Linux holds, and that must fit into the time of a flush. */
const RETRY_MS = 20;

const writeTo = promisify(write);

/**
 * Lines on their way to a file descriptor, in order; it never blocks. What comes while 1 MiB waits, or while the reader has
 * not yet taken half of that, is dropped and counted.
 */
export class LineBuffer implements DestinationStream {
  readonly #fd: number;
  readonly #onDropped: (lines: number) => void;
  readonly #waiting: Buffer[] = [];
  #bytes = 0;
  #dropped = 0;
  #inWrite: Promise<number> = Promise.resolve(0);
  #writing: Promise<void> | undefined;

  /**
   * @param stream only its descriptor is used. That node opens it is needed, though: it makes a pipe non-blocking.
   * @param onDropped told how many lines were dropped, as soon as there is room again
   */
  constructor(stream: { readonly fd: number }, onDropped: (lines: number) => void) {
    this.#fd = stream.fd;
    this.#onDropped = onDropped;
  }

  write(line: string): void {
    const bytes = Buffer.from(line);
    if (this.#dropped > 0 || this.#bytes + bytes.length > MAX_BUFFER_BYTES) {
      this.#dropped += 1;
      return;
    }
    this.#waiting.push(bytes);
    this.#bytes += bytes.length;
    this.#writing ??= this.#writeAll();
  }

  /** Resolves when everything is written, or after `ms` milliseconds. */
  async flush(ms: number): Promise<void> {
    if (this.#writing !== undefined) await within(ms, this.#writing);
  }

  /**
   * Whether a write does not come back within `ms` milliseconds, as on a stopped terminal, or a pipe that another process
   * made blocking again. `process.exit` waits for the thread that it holds.
   */
  async isBlocked(ms: number): Promise<boolean> {
    return (await within(ms, this.#inWrite)) === TOO_LATE;
  }

  async #writeAll(): Promise<void> {
    while (this.#waiting.length > 0) {
      const chunk = this.#take();
      await this.#writeWhole(chunk);
      this.#bytes -= chunk.length;
      this.#tellDropped();
    }
    this.#writing = undefined;
  }

  #take(): Buffer {
    let [count, bytes] = [0, 0];
    for (const line of this.#waiting) {
      if (count > 0 && bytes + line.length > WHOLE_BYTES) break;
      count += 1;
      bytes += line.length;
    }
    return Buffer.concat(this.#waiting.splice(0, count), bytes);
  }

  /** The pipe may be full, the disk too, and a named pipe may get another reader: whatever is wrong may pass. */
  async #writeWhole(chunk: Buffer): Promise<void> {
    for (let rest = chunk; rest.length > 0; ) {
      this.#inWrite = writeTo(this.#fd, rest).then(
        ({ bytesWritten }) => bytesWritten,
        () => 0,
      );
      const count = await this.#inWrite;
      rest = rest.subarray(count);
      if (count === 0) await sleep(RETRY_MS);
    }
  }

  #tellDropped(): void {
    if (this.#dropped === 0 || this.#bytes > MAX_BUFFER_BYTES / 2) return;
    const lines = this.#dropped;
    this.#dropped = 0;
    this.#onDropped(lines);
  }
}
