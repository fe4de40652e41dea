import { type FileHandle, open } from 'node:fs/promises';
import { isAbsent } from '../disk/durable.ts';
import { allotRead } from '../disk/read-memory.ts';
import { READ_REGULAR } from '../disk/regular.ts';
import { inTurn } from '../disk/turns.ts';
import { Vanished } from '../disk/vanished.ts';

/** One reader's own descriptor and buffer: neither a rename nor a removal takes the file from it. */
export class PieceReader {
  readonly #handle: FileHandle;
  readonly #signal: AbortSignal;
  readonly #memory: ReturnType<typeof allotRead>;
  #buffer: Buffer | null = null;

  private constructor(handle: FileHandle, length: number, signal: AbortSignal) {
    this.#handle = handle;
    this.#memory = allotRead(length, 1);
    this.#signal = signal;
  }

  /**
   * @param length how much will be read, in bytes
   * @param signal ends every wait for the disk, with its reason
   */
  static async open(path: string, length: number, signal: AbortSignal): Promise<PieceReader> {
    const handle = await inTurn(signal, async () => {
      const opened = await open(path, READ_REGULAR);
      if (signal.aborted) closeBehind(opened);
      return opened;
    });
    return new PieceReader(handle, length, signal);
  }

  /**
   * What is there of the bytes from `from` up to `to`, as much as fits in a piece; it is valid until the next one is asked for.
   * @returns no bytes at the end of the file
   */
  async read(from: number, to: number): Promise<Uint8Array> {
    this.#signal.throwIfAborted();
    this.#buffer ??= Buffer.allocUnsafeSlow(this.#memory.bytes);
    const buffer = this.#buffer;
    const length = Math.min(buffer.byteLength, to - from);
    const { bytesRead } = await inTurn(this.#signal, () => this.#handle.read(buffer, 0, length, from));
    return buffer.subarray(0, bytesRead);
  }

  /** Nobody waits for it: a disk that hangs does not let go. */
  close(): void {
    this.#memory.giveBack();
    closeBehind(this.#handle);
  }
}

/**
 * A part of a file that does not change.
 * @param paths of which it is at the first that is there
 * @param to exclusive, at most the size of the file
 */
export async function* readPart(
  paths: readonly string[],
  from: number,
  to: number,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const reader = await openFirst(paths, to - from, signal);
  try {
    for (let at = from; at < to; ) {
      const piece = await reader.read(at, to);
      if (piece.byteLength === 0) throw cutShort();
      at += piece.byteLength;
      yield piece;
    }
  } finally {
    reader.close();
  }
}

/**
 * The same of one that may be in memory still.
 * @param placesOf asked when the first piece is
 * @throws Vanished where it is nowhere
 */
export async function* readTaken(
  placesOf: () => Uint8Array | readonly string[],
  from: number,
  to: number,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  if (from >= to) return;
  const places = placesOf();
  if (places instanceof Uint8Array) return yield places.subarray(from, to);
  try {
    yield* readPart(places, from, to, signal);
  } catch (error) {
    throw isAbsent(error) ? new Vanished(error) : error;
  }
}

async function openFirst(
  [path = '', ...others]: readonly string[],
  length: number,
  signal: AbortSignal,
): Promise<PieceReader> {
  try {
    return await PieceReader.open(path, length, signal);
  } catch (error) {
    if (others.length === 0 || !isAbsent(error)) throw error;
    return await openFirst(others, length, signal);
  }
}

export function cutShort(): Error {
  return new Error('A file in the cache was cut short by somebody else.');
}

function closeBehind(handle: FileHandle): void {
  handle.close().catch(() => undefined);
}
