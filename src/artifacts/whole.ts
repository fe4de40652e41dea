import { wrongSize } from '../domain/manifest.ts';
import { assertComplete } from './complete.ts';
import type { OpenFile, Progress, SmallFile } from './source.ts';

/** The bytes of a file of a known size, gathered as they come. */
export class Whole {
  readonly #bytes: Buffer;
  #came = 0;

  constructor(size: number) {
    this.#bytes = Buffer.allocUnsafe(size);
  }

  /** @throws SidecarError `artifact_corrupt` where there are more */
  take(chunk: Uint8Array): void {
    const size = this.#bytes.byteLength;
    if (this.#came + chunk.byteLength > size) throw wrongSize(`more than ${size}`, size);
    this.#bytes.set(chunk, this.#came);
    this.#came += chunk.byteLength;
  }

  /** @throws SidecarError `artifact_corrupt` where there were fewer */
  end(): Uint8Array {
    if (this.#came < this.#bytes.byteLength) throw wrongSize(String(this.#came), this.#bytes.byteLength);
    return this.#bytes;
  }
}

/** Reads a small file that was opened, and closes it. */
export async function readWhole(file: SmallFile, opened: OpenFile, progress: Progress): Promise<Uint8Array> {
  try {
    assertComplete(file, opened);
    progress.answered();
    const whole = new Whole(file.size);
    for await (const chunk of opened.body) {
      progress.came(chunk.byteLength);
      whole.take(chunk);
    }
    return whole.end();
  } finally {
    opened.close();
  }
}
