import { Readable } from 'node:stream';
import type { Clock } from '../domain/clock.ts';
import { SidecarError } from '../domain/errors.ts';
import { type FloorLimits, ProgressFloor, type Transfer } from '../policy/progress-floor.ts';

export interface UploadOptions {
  /** How messages begin: "MLflow at http://mlflow:5000". */
  readonly who: string;
  /** Milliseconds in which something must move. */
  readonly idleMs: number;
  /** What must move, of which either side may be the slow one. */
  readonly floor: FloorLimits;
  readonly clock: Clock;
}

/**
 * A caller's body on its way upstream, as fast as that takes it. Whoever destroys it leaves the caller's stream alone: destroyed,
 * that would end the connection which the answer has to go out on.
 */
export class Upload extends Readable {
  readonly #source: Readable;
  readonly #options: UploadOptions;
  readonly #idle: NodeJS.Timeout;
  readonly #floor: ProgressFloor;
  readonly #transfer: Transfer;
  readonly #take = (chunk: Uint8Array) => {
    this.#idle.refresh();
    this.#transfer.came(chunk.byteLength);
    if (!this.push(chunk)) this.#source.pause();
  };
  readonly #end = () => {
    this.#source.off('close', this.#broken);
    this.push(null);
  };
  readonly #broken = (cause?: unknown) => {
    const message = 'The body of the request broke off.';
    this.destroy(new SidecarError('invalid_request', message, { cause }));
  };

  constructor(source: Readable, options: UploadOptions) {
    super();
    this.#source = source;
    this.#options = options;
    const { floor, clock, idleMs } = options;
    this.#idle = setTimeout(() => this.destroy(this.#stalled()), idleMs);
    this.#floor = new ProgressFloor(floor, () => this.destroy(this.#belowFloor()), clock);
    this.#transfer = this.#floor.begin();
    // Whoever sends it learns of an error by other ways; without anybody who listens it would end the process.
    this.on('error', () => undefined);
    source.pause();
    source
      .on('data', this.#take)
      .once('end', this.#end)
      .on('error', this.#broken)
      .once('close', this.#broken);
    if (source.readableEnded) this.#end();
    else if (source.destroyed) this.#broken();
  }

  /** Whether some of it was sent, but not all. */
  get isUnderWay(): boolean {
    return this.readableDidRead && !this.readableEnded;
  }

  /** Why it was not sent within `time`, and by whose fault; null where it was. */
  slowness(time: string): SidecarError | null {
    if (this.readableEnded || this.destroyed) return null;
    const { who } = this.#options;
    return this.#blamed(
      time,
      `${who}: took not all of the body within ${time}.`,
      `The request's body did not come whole within ${time}.`,
    );
  }

  override _read(): void {
    this.#idle.refresh();
    this.#source.resume();
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    clearTimeout(this.#idle);
    this.#floor.stop();
    this.#source.off('data', this.#take).off('end', this.#end).off('close', this.#broken);
    this.#source.off('error', this.#broken).on('error', () => undefined);
    callback(error);
  }

  #stalled(): SidecarError {
    const { who, idleMs } = this.#options;
    const time = `${idleMs / 1_000} s`;
    return this.#blamed(
      time,
      `${who}: took nothing of the body for ${time}.`,
      `Nothing came of the request's body for ${time}.`,
    );
  }

  #belowFloor(): SidecarError {
    const { who, floor } = this.#options;
    const speed = `less than ${floor.bytesPerSecond / 1_024} KiB/s`;
    const time = `${floor.windowS} s`;
    return this.#blamed(
      time,
      `${who}: took ${speed} of the body for ${time}.`,
      `The request's body came at ${speed} for ${time}.`,
    );
  }

  /** By whom it waits for at this moment: with a trickle that is nearly always the same one. */
  #blamed(time: string, ofMlflow: string, ofCaller: string): SidecarError {
    const { who } = this.#options;
    if (this.readableFlowing === null)
      return new SidecarError('mlflow_timeout', `${who}: no connection within ${time}.`);
    if (this.isPaused()) return new SidecarError('mlflow_timeout', ofMlflow);
    return new SidecarError('invalid_request', ofCaller);
  }
}
