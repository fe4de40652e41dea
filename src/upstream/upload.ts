import { Readable } from 'node:stream';
import { SidecarError } from '../domain/errors.ts';

export interface UploadOptions {
  /** How messages begin: "MLflow at http://mlflow:5000". */
  readonly who: string;
  /** Milliseconds in which something must move. */
  readonly idleMs: number;
}

/**
 * A caller's body on its way upstream, as fast as that takes it. Whoever destroys it leaves the caller's stream alone: destroyed,
 * that would end the connection which the answer has to go out on.
 */
export class Upload extends Readable {
  readonly #source: Readable;
  readonly #options: UploadOptions;
  readonly #idle: NodeJS.Timeout;
  readonly #take = (chunk: unknown) => {
    this.#idle.refresh();
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
    this.#idle = setTimeout(() => this.destroy(this.#stalled()), options.idleMs);
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

  override _read(): void {
    this.#idle.refresh();
    this.#source.resume();
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    clearTimeout(this.#idle);
    this.#source.off('data', this.#take).off('end', this.#end).off('close', this.#broken);
    this.#source.off('error', this.#broken).on('error', () => undefined);
    callback(error);
  }

  #stalled(): SidecarError {
    const { who, idleMs } = this.#options;
    const time = `${idleMs / 1_000} s`;
    if (this.readableFlowing === null)
      return new SidecarError('mlflow_timeout', `${who}: no connection within ${time}.`);
    if (this.isPaused())
      return new SidecarError('mlflow_timeout', `${who}: took nothing of the body for ${time}.`);
    return new SidecarError('invalid_request', `Nothing came of the request's body for ${time}.`);
  }
}
