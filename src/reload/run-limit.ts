import type { Clock } from '../domain/clock.ts';
import { SidecarError } from '../domain/errors.ts';

/** How long the fetch of one version may take, with or without callers. */
export const BASE_LIMIT_MS = 30 * 60_000;
export const LONGEST_LIMIT_MS = 2 * 3_600_000;
const SLOWEST_BYTES_PER_MS = 5_000;

/** Ends a fetch that takes too long, or that is not wanted any more. */
export class RunLimit {
  readonly #controller = new AbortController();
  readonly #clock: Clock;
  readonly #startedAt: number;
  #timer: NodeJS.Timeout;
  readonly signal: AbortSignal;

  constructor(clock: Clock, stops: readonly AbortSignal[]) {
    this.#clock = clock;
    this.#startedAt = clock.monotonic();
    this.signal = AbortSignal.any([this.#controller.signal, ...stops]);
    this.#timer = this.#arm(BASE_LIMIT_MS);
  }

  /** Once the size is known. */
  extendFor(bytes: number): void {
    const limit = Math.min(LONGEST_LIMIT_MS, BASE_LIMIT_MS + bytes / SLOWEST_BYTES_PER_MS);
    clearTimeout(this.#timer);
    this.#timer = this.#arm(limit);
  }

  dispose(): void {
    clearTimeout(this.#timer);
  }

  #arm(limitMs: number): NodeJS.Timeout {
    const over = () =>
      this.#controller.abort(
        new SidecarError(
          'artifact_timeout',
          `The version was not there after ${Math.round(limitMs / 60_000)} min.`,
        ),
      );
    return setTimeout(over, limitMs - (this.#clock.monotonic() - this.#startedAt));
  }
}
