import type { Clock } from '../domain/clock.ts';
import type { SidecarError } from '../domain/errors.ts';
import type { RegistryHealth } from './api.ts';

/** For how long a registry that missed its wait is asked in the background only. */
const SLOW_MS = 10_000;

/** A healthy MLflow takes 5 to 45 ms; a caller that waits for less than this says nothing about it. */
export const TELLING_WAIT_MS = 100;

/** What is known of the registry's health, from what it answered; it is never asked for this. */
export class RegistryWatch {
  readonly #uris: Pick<RegistryHealth, 'uri' | 'registry_uri'>;
  readonly #quickMs: number;
  readonly #clock: Clock;
  readonly #front: RegistryWatch | null;
  #lastSuccessAt: number | null = null;
  #lastFailure: { readonly at: number; readonly message: string } | null = null;
  #slow: { readonly until: number; readonly reason: SidecarError } | null = null;

  /**
   * @param quickMs an answer within this time shows that the registry is not slow any more
   * @param front of the server that this one is behind, and slow with
   */
  constructor(
    uris: Pick<RegistryHealth, 'uri' | 'registry_uri'>,
    quickMs: number,
    clock: Clock,
    front: RegistryWatch | null = null,
  ) {
    this.#front = front;
    this.#uris = uris;
    this.#quickMs = quickMs;
    this.#clock = clock;
  }

  answered(latencyMs: number): void {
    this.#lastSuccessAt = this.#clock.now();
    if (latencyMs < this.#quickMs) this.#slow = null;
  }

  failed(error: SidecarError): void {
    this.#lastFailure = { at: this.#clock.now(), message: error.message };
  }

  missedWait(reason: SidecarError): void {
    this.#slow = { until: this.#clock.monotonic() + SLOW_MS, reason };
  }

  /** Why the registry is asked in the background only; null where callers may wait for it. */
  slowReason(): SidecarError | null {
    if (this.#slow !== null && this.#clock.monotonic() >= this.#slow.until) this.#slow = null;
    return this.#slow?.reason ?? this.#front?.slowReason() ?? null;
  }

  health(): Omit<RegistryHealth, 'health'> {
    return {
      ...this.#uris,
      last_success_at: seconds(this.#lastSuccessAt),
      last_failure_at: seconds(this.#lastFailure?.at ?? null),
      last_error: this.#lastFailure?.message ?? null,
      slow: this.slowReason() !== null,
    };
  }
}

function seconds(ms: number | null): number | null {
  return ms === null ? null : ms / 1_000;
}
