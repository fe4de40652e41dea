import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { wrongSize } from '../../domain/manifest.ts';
import { unlessUnsupported } from '../disk/durable.ts';

/** What is read back at once to be hashed. */
const READ_BYTES = 256 * 1024;
/** After so many more bytes the disk is told to keep them, while the network still works. */
const CHECKPOINT_BYTES = 64 * 1024 * 1024;

/** A part of a file: the bytes from `at` up to `end` are still to come. */
export interface Stretch {
  at: number;
  /** Infinity where nobody knows. */
  readonly end: number;
}

/** How far a file is: the bytes before `bytes` have this hash and, where it was told so, are on the disk. */
export interface Mark {
  readonly bytes: number;
  readonly sha256: string;
}

/**
 * A file that is written in stretches, in any order, and hashed in the order of its bytes: at once where they come in it, else
 * read back behind the writers.
 */
export class GrowingFile {
  readonly #handle: FileHandle;
  readonly #onCheckpoint: ((mark: Mark) => Promise<void>) | null;
  readonly #onGrowth: () => void;
  /** Where stretches begin, and up to where they are written. */
  readonly #ahead = new Map<number, number>();
  #hash = createHash('sha256');
  #hashed = 0;
  #readBack: Buffer | null = null;
  #hashing: Promise<void> | null = null;
  #checkpointed = 0;
  #checkpoint: Promise<void> = Promise.resolve();
  #failure: unknown = null;

  /**
   * @param onCheckpoint told of what is on the disk by now
   * @param onGrowth told that `bytes` has moved on
   */
  constructor(
    handle: FileHandle,
    onCheckpoint: ((mark: Mark) => Promise<void>) | null,
    onGrowth: () => void = () => undefined,
  ) {
    this.#handle = handle;
    this.#onCheckpoint = onCheckpoint;
    this.#onGrowth = onGrowth;
  }

  /** Without a gap from the first byte on. */
  get bytes(): number {
    return this.#hashed;
  }

  /** Takes what is in the file already; whether it is what the mark says. The file is to be emptied where it is not. */
  async adopt(mark: Mark): Promise<boolean> {
    const { size } = await this.#handle.stat();
    if (size < mark.bytes) return false;
    this.#ahead.set(0, mark.bytes);
    await this.#catchUp();
    this.#checkpointed = this.#hashed;
    return this.#hash.copy().digest('hex') === mark.sha256;
  }

  /** Forgets everything. Nobody may be writing. */
  async empty(): Promise<void> {
    await this.#settled();
    await this.#handle.truncate(0);
    this.#ahead.clear();
    this.#hash = createHash('sha256');
    this.#hashed = 0;
    this.#checkpointed = 0;
    this.#failure = null;
  }

  /**
   * Writes a body piece by piece; `stretch.at` moves with what is written, also where the body breaks off.
   * @throws SidecarError `artifact_corrupt` where the body is longer or shorter than the stretch
   */
  async write(body: AsyncIterable<Uint8Array>, stretch: Stretch): Promise<void> {
    const start = stretch.at;
    let came = start;
    for await (const chunk of body) {
      came += chunk.byteLength;
      if (came > stretch.end) throw wrongSize(`more than ${stretch.end}`, stretch.end);
      await this.#writeAll(chunk, start, stretch.at);
      stretch.at = came;
    }
    if (came < stretch.end && stretch.end !== Number.POSITIVE_INFINITY)
      throw wrongSize(String(came), stretch.end);
  }

  /** Waits until every byte is hashed and on the disk. */
  async finish(): Promise<Mark> {
    await this.#settled();
    if (this.#failure !== null) throw this.#failure;
    await this.#handle.chmod(0o444).catch(unlessUnsupported);
    await this.#handle.sync();
    return { bytes: this.#hashed, sha256: this.#hash.digest('hex') };
  }

  /** Makes what has come so far survive a power cut. Nobody may be writing. */
  async save(): Promise<Mark> {
    await this.#settled();
    const mark = this.#mark();
    await this.#handle.datasync();
    return mark;
  }

  async #writeAll(bytes: Uint8Array, start: number, at: number): Promise<void> {
    if (bytes.byteLength === 0) return;
    await writeFully(this.#handle, bytes, at);
    if (at === this.#hashed && this.#hashing === null) {
      this.#grow(bytes);
    } else this.#ahead.set(start, at + bytes.byteLength);
    this.#goOn();
  }

  #goOn(): void {
    if (this.#hashing === null && this.#readableTo() > this.#hashed) {
      this.#hashing = this.#catchUp()
        .catch(error => {
          this.#failure = error;
        })
        .finally(() => {
          this.#hashing = null;
        });
    }
    if (this.#hashed - this.#checkpointed < CHECKPOINT_BYTES) return;
    const mark = this.#mark();
    this.#checkpointed = mark.bytes;
    this.#checkpoint = this.#checkpoint
      .then(() => this.#handle.datasync())
      .then(() => this.#onCheckpoint?.(mark))
      .catch(error => {
        this.#failure = error;
      });
  }

  #grow(bytes: Uint8Array): void {
    this.#hash.update(bytes);
    this.#hashed += bytes.byteLength;
    this.#onGrowth();
  }

  #mark(): Mark {
    return { bytes: this.#hashed, sha256: this.#hash.copy().digest('hex') };
  }

  async #catchUp(): Promise<void> {
    this.#readBack ??= Buffer.allocUnsafeSlow(READ_BYTES);
    const buffer = this.#readBack;
    for (let end = this.#readableTo(); end > this.#hashed; end = this.#readableTo()) {
      const length = Math.min(READ_BYTES, end - this.#hashed);
      const { bytesRead } = await this.#handle.read(buffer, 0, length, this.#hashed);
      if (bytesRead === 0) throw new Error('A file in work was cut short by somebody else.');
      this.#grow(buffer.subarray(0, bytesRead));
    }
  }

  /** Up to where what follows the hashed bytes has been written. */
  #readableTo(): number {
    let to = this.#hashed;
    for (const [from, end] of this.#ahead) {
      if (end <= this.#hashed) this.#ahead.delete(from);
      else if (from <= this.#hashed) to = Math.max(to, end);
    }
    return to;
  }

  async #settled(): Promise<void> {
    while (this.#failure === null && (this.#hashing !== null || this.#readableTo() > this.#hashed)) {
      this.#goOn();
      await this.#hashing;
    }
    await this.#hashing;
    await this.#checkpoint;
  }
}

/** A disk that is filling up takes a part and refuses the rest. */
async function writeFully(handle: FileHandle, bytes: Uint8Array, at: number): Promise<void> {
  for (let done = 0; done < bytes.byteLength; ) {
    done += (await handle.write(bytes, done, bytes.byteLength - done, at + done)).bytesWritten;
  }
}
