import type { Clock } from '../domain/clock.ts';
import { formatModelUri, type ModelUri } from '../domain/model-uri.ts';
import { delay } from '../policy/abort.ts';
import type { Warmer } from './warmer.ts';

/** An MLflow that starts together with the sidecar is there some seconds later. */
const AGAIN_MS = 5_000;
/** So many models are named. */
const MOST_NAMED = 5;

export interface WarmUpOptions {
  readonly models: readonly ModelUri[];
  /** 0: there is none. */
  readonly ms: number;
  readonly warmer: Pick<Warmer, 'warm'>;
  /** Whether there is a version to give. */
  readonly isThere: (uri: ModelUri) => boolean;
  readonly clock: Clock;
}

/** Loads every model at the start, again and again until it is there or the time is over. */
export class WarmUp {
  readonly #options: WarmUpOptions;
  readonly #stopping = new AbortController();
  #endsAt: number | null;

  constructor(options: WarmUpOptions) {
    this.#options = options;
    this.#endsAt = options.ms === 0 ? null : options.clock.monotonic() + options.ms;
  }

  /** Why callers should wait; null once they need not, and from then on. */
  get problem(): string | null {
    if (this.#endsAt === null) return null;
    const missing = this.#options.clock.monotonic() < this.#endsAt ? this.#missing() : [];
    if (missing.length === 0) this.#endsAt = null;
    return missing.length === 0 ? null : wordsOf(missing, this.#options.models.length);
  }

  start(): void {
    const endsAt = this.#endsAt;
    if (endsAt === null) return;
    for (const uri of this.#options.models) this.#load(uri, endsAt).catch(() => undefined);
  }

  stop(): void {
    this.#stopping.abort(new Error('The sidecar is stopping.'));
  }

  async #load(uri: ModelUri, endsAt: number): Promise<void> {
    const { warmer, isThere, clock } = this.#options;
    for (;;) {
      await warmer.warm(uri, 'warmup');
      if (isThere(uri) || clock.monotonic() + AGAIN_MS >= endsAt) return;
      await delay(AGAIN_MS, this.#stopping.signal);
    }
  }

  #missing(): readonly ModelUri[] {
    return this.#options.models.filter(uri => !this.#options.isThere(uri));
  }
}

function wordsOf(missing: readonly ModelUri[], all: number): string {
  const named = missing.slice(0, MOST_NAMED).map(formatModelUri).join(', ');
  const others = missing.length > MOST_NAMED ? ` and ${missing.length - MOST_NAMED} more` : '';
  return `The warm-up is not over: of ${all} models ${missing.length} are not loaded yet: ${named}${others}.`;
}
