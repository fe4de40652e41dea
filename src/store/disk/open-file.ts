import { type FileHandle, open } from 'node:fs/promises';
import { SidecarError } from '../../domain/errors.ts';
import { withTimeout } from '../../policy/abort.ts';
import { isAbsent } from './durable.ts';
import { allotRead } from './read-memory.ts';
import { isOther, READ_REGULAR } from './regular.ts';
import { inTurn } from './turns.ts';

/** A disk that gives nothing for so long hangs. */
const ANSWER_MS = 5_000;

/** The disk does not give a file that is known. */
export class Unreadable extends SidecarError {
  readonly isGone: boolean;

  private constructor(code: 'artifact_corrupt' | 'deadline_exceeded', message: string, cause?: unknown) {
    super(code, message, { hint: 'Check the disk of SIDECAR_CACHE_DIR, and ask again.', cause });
    this.name = 'Unreadable';
    this.isGone = code === 'artifact_corrupt';
  }

  static gone(cause: unknown): Unreadable {
    return new Unreadable('artifact_corrupt', 'A file of the cache was removed by somebody else.', cause);
  }

  static late(): Unreadable {
    const message = `The cache's disk gave nothing for ${ANSWER_MS / 1_000} s.`;
    return new Unreadable('deadline_exceeded', message);
  }
}

/** A file that does not change any more, held open: neither a rename nor a removal takes it from whoever reads it. */
export class OpenFile {
  readonly #handle: FileHandle;
  readonly #signal: AbortSignal;
  #reading: Promise<unknown> = Promise.resolve();

  private constructor(handle: FileHandle, signal: AbortSignal) {
    this.#handle = handle;
    this.#signal = signal;
  }

  /**
   * To be closed.
   * @param signal ends every wait for the disk, with its reason
   * @throws Unreadable where it is not there, or the disk hangs
   */
  static async open(path: string, signal: AbortSignal): Promise<OpenFile> {
    try {
      const handle = await inTime(signal, async left => {
        const opened = await open(path, READ_REGULAR);
        if (left.aborted) closeBehind(opened);
        return opened;
      });
      return new OpenFile(handle, signal);
    } catch (error) {
      throw isAbsent(error) || isOther(error) ? Unreadable.gone(error) : error;
    }
  }

  /**
   * A part of it, in pieces; each is valid until the next one is asked for, and that one is read meanwhile.
   * @param to exclusive, at most the size of the file
   * @throws Unreadable where the disk hangs
   */
  async *read(from: number, to: number): AsyncGenerator<Uint8Array> {
    const { bytes: size, giveBack } = allotRead(to - from, 2);
    try {
      let [full, free] = [Buffer.allocUnsafeSlow(size), Buffer.allocUnsafeSlow(to - from > size ? size : 0)];
      let next = this.#begin(full, from, to);
      for (let at = from; at < to; ) {
        const { bytesRead } = await next;
        if (bytesRead === 0)
          throw new SidecarError('artifact_corrupt', 'A file of the cache is shorter than it was.');
        at += bytesRead;
        const piece = full.subarray(0, bytesRead);
        [full, free] = [free, full];
        if (at < to) next = this.#begin(full, at, to);
        yield piece;
      }
    } finally {
      giveBack();
    }
  }

  /** Nobody waits for it: a disk that hangs does not let go. */
  close(): void {
    void this.#reading.finally(() => closeBehind(this.#handle));
  }

  #begin(buffer: Buffer, at: number, to: number): Promise<{ readonly bytesRead: number }> {
    const next = inTime(this.#signal, () => {
      const reading = this.#handle.read(buffer, 0, Math.min(buffer.byteLength, to - at), at);
      this.#reading = reading.catch(() => undefined);
      return reading;
    });
    // Who stops early does not wait for it.
    next.catch(() => undefined);
    return next;
  }
}

function inTime<T>(signal: AbortSignal, read: (left: AbortSignal) => Promise<T>): Promise<T> {
  return withTimeout(
    ANSWER_MS,
    signal,
    () => Unreadable.late(),
    left => inTurn(left, () => read(left)),
  );
}

function closeBehind(handle: FileHandle): void {
  handle.close().catch(() => undefined);
}
