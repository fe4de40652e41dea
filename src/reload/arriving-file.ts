import type { Readable } from '../artifacts/arrivals.ts';
import { toSidecarError } from '../domain/errors.ts';
import { Vanished } from '../store/disk/vanished.ts';
import { BegunAnew } from '../store/intake/followed-file.ts';

/** One file of a version that is on its way into the store. */
export interface ArrivingFile {
  /**
   * Its bytes as they come: of a file of 8 MiB or more while it grows, of any other once it is whole. Each piece is valid until
   * the next one is asked for. Whoever stops reading calls `return`, which `for await` does.
   * @param to exclusive; the end of the file where null
   * @throws SidecarError why the file cannot be had, or that it was begun anew after bytes of it were given; or the signal's reason
   */
  read(from: number, to: number | null, signal: AbortSignal): AsyncIterable<Uint8Array>;
  /**
   * In bytes: as listed or, where the listing does not say, once it has come.
   * @throws SidecarError why it cannot be had, or the signal's reason
   */
  size(signal: AbortSignal): Promise<number>;
}

/** Knows where the files of a version are by now. */
export interface Whereabouts {
  /** @param tried where it was not any more; another place is waited for */
  place(path: string, tried: Readable | null, signal: AbortSignal): Promise<Readable>;
  isAt(path: string, place: Readable): boolean;
  size(path: string, signal: AbortSignal): Promise<number>;
}

export class FileOnItsWay implements ArrivingFile {
  readonly #version: Whereabouts;
  readonly #path: string;

  constructor(version: Whereabouts, path: string) {
    this.#version = version;
    this.#path = path;
  }

  async size(signal: AbortSignal): Promise<number> {
    return await this.#version.size(this.#path, signal);
  }

  read(from: number, to: number | null, signal: AbortSignal): AsyncIterable<Uint8Array> {
    return {
      [Symbol.asyncIterator]: () => {
        const leaving = new AbortController();
        const pieces = this.#pieces(from, to, AbortSignal.any([signal, leaving.signal]));
        return {
          next: () => pieces.next(),
          // A generator would go on waiting for the piece that was asked for last, which may never come.
          return: async () => {
            leaving.abort(new Error('The reader has left.'));
            return await pieces.return(undefined);
          },
        };
      },
    };
  }

  async *#pieces(
    from: number,
    to: number | null,
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array, undefined> {
    const path = this.#path;
    let isGiven = false;
    try {
      for (let place = await this.#version.place(path, null, signal); ; ) {
        try {
          for await (const piece of place.read(from, to, signal)) {
            isGiven = true;
            yield piece;
          }
          return;
        } catch (error) {
          if (!(error instanceof BegunAnew || error instanceof Vanished)) throw error;
          if (isGiven && this.#version.isAt(path, place)) throw error;
          // Throws why, where the download has failed.
          place = await this.#version.place(path, place, signal);
          if (isGiven) throw error;
        }
      }
    } catch (error) {
      signal.throwIfAborted();
      throw toSidecarError(error);
    }
  }
}
