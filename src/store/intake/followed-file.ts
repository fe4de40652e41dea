import { SidecarError } from '../../domain/errors.ts';
import { inLine } from '../../policy/abort.ts';
import { isAbsent } from '../disk/durable.ts';
import { cutShort, PieceReader } from './piece-reader.ts';

/** What comes next, if anything does, does not belong to what the reader has of the file. */
export class BegunAnew extends SidecarError {
  constructor(cause?: unknown) {
    super('artifact_corrupt', 'The file was begun anew while it was read.', { hint: 'Ask again.', cause });
    this.name = 'BegunAnew';
  }
}

/** For those who read a file while it grows. Each reads at its own pace, and none holds up whoever writes. */
export class FollowedFile {
  readonly #path: string;
  readonly #total: number;
  readonly #bytes: () => number;
  readonly #waiting = new Set<() => void>();
  #state: 'growing' | 'emptied' | 'whole' | 'left' = 'growing';
  /** Of how many contents it has been by now. */
  #contents = 0;

  /**
   * @param total what it is to be in the end, in bytes
   * @param bytes how many are there, without a gap from the first one on
   */
  constructor(path: string, total: number, bytes: () => number) {
    this.#path = path;
    this.#total = total;
    this.#bytes = bytes;
  }

  /** More of it is there. */
  grown(): void {
    for (const wake of this.#waiting) {
      this.#waiting.delete(wake);
      wake();
    }
  }

  /** It begins again, perhaps with another content. */
  async anew(empty: () => Promise<void>): Promise<void> {
    this.#contents++;
    this.#state = 'emptied';
    this.grown();
    await empty();
    this.#state = 'growing';
  }

  whole(): void {
    this.#state = 'whole';
    this.grown();
  }

  /** No more of it will come. */
  left(): void {
    this.#state = 'left';
    this.grown();
  }

  /**
   * Its bytes from `from` up to `to`, as they come; a piece is valid until the next one is asked for.
   * @param to exclusive; the end of the file where null
   * @throws BegunAnew where it is not there any more, or another content than the one that bytes were given of
   */
  async *read(from: number, to: number | null, signal: AbortSignal): AsyncGenerator<Uint8Array> {
    const end = Math.min(to ?? this.#total, this.#total);
    if (from >= end) return;
    const reader = await this.#open(end - from, signal);
    let given: number | null = null;
    try {
      for (let at = from; at < end; ) {
        const { until, content } = await this.#beyond(at, given, signal);
        const piece = await reader.read(at, Math.min(end, until));
        // What was read while it was emptied may be anything.
        if (!this.#isStill(content)) continue;
        if (piece.byteLength === 0) throw cutShort();
        given = content;
        at += piece.byteLength;
        yield piece;
      }
    } finally {
      reader.close();
    }
  }

  async #open(length: number, signal: AbortSignal): Promise<PieceReader> {
    try {
      return await PieceReader.open(this.#path, length, signal);
    } catch (error) {
      throw isAbsent(error) ? new BegunAnew(error) : error;
    }
  }

  /** Up to where which content can be read, once that is beyond `at`. @param given of which content bytes were */
  async #beyond(
    at: number,
    given: number | null,
    signal: AbortSignal,
  ): Promise<{ readonly until: number; readonly content: number }> {
    for (;;) {
      const content = this.#contents;
      if (!this.#isStill(given ?? content)) throw new BegunAnew();
      const until = this.#readableTo();
      if (until > at) return { until, content };
      await inLine(this.#waiting, signal);
    }
  }

  #isStill(content: number): boolean {
    return content === this.#contents && this.#state !== 'left';
  }

  /** The last byte makes it look whole: it is for those only who could be told that nothing comes behind it. */
  #readableTo(): number {
    if (this.#state === 'whole') return this.#total;
    return this.#state === 'growing' ? Math.min(this.#bytes(), this.#total - 1) : 0;
  }
}
