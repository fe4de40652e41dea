import type { Clock } from '../domain/clock.ts';
import type { EventBus } from '../domain/events.ts';
import { Breaker } from '../policy/breaker.ts';
import type { BreakerLimits } from '../policy/breaker-rules.ts';
import type { Pulse } from '../policy/recovery.ts';

/** Artifact addresses come from outside, and may name a new host each. */
const MAX_ARTIFACT_HOSTS = 100;

export interface CircuitOptions {
  readonly registryUri: string;
  readonly trackingUri: string;
  readonly limits: BreakerLimits;
  readonly clock: Clock;
  readonly events: EventBus;
  /** Of the server at an address. */
  readonly pulseOf?: (uri: string) => Pulse;
  /** Whether the cache has something from there: it answered an earlier process. */
  readonly isKnown?: (uri: string) => boolean;
}

/** One server's breaker, with what tells it from the others. */
export interface NamedBreaker {
  readonly name: 'registry' | 'tracking' | 'artifacts';
  readonly host: string;
  readonly uri: string;
  readonly breaker: Breaker;
}

/**
 * The breakers of everybody that the sidecar talks to. That a server is down for questions says nothing about its
 * artifacts, nor the reverse: they are often fetched from elsewhere behind the same address.
 */
export class Circuits {
  readonly #options: CircuitOptions;
  readonly #registry: NamedBreaker;
  readonly #tracking: NamedBreaker;
  readonly #artifacts = new Map<string, NamedBreaker>();

  constructor(options: CircuitOptions) {
    this.#options = options;
    const { registryUri, trackingUri } = options;
    this.#registry = this.#make('registry', registryUri, `MLflow at ${registryUri}`);
    this.#tracking = this.#make('tracking', trackingUri, `The tracking part of MLflow at ${trackingUri}`);
  }

  get registry(): Breaker {
    return this.#registry.breaker;
  }

  /** Apart from the registry's where both are one server, too: a search that fails says nothing about models. */
  get tracking(): Breaker {
    return this.#tracking.breaker;
  }

  /** Of an artifact server; the one that was not asked for longest gives way. */
  artifacts(origin: string): Breaker {
    const found =
      this.#artifacts.get(origin) ?? this.#make('artifacts', origin, `The artifact server ${origin}`);
    this.#artifacts.delete(origin);
    this.#artifacts.set(origin, found);
    const [oldest] = this.#artifacts;
    if (oldest !== undefined && this.#artifacts.size > MAX_ARTIFACT_HOSTS) {
      this.#artifacts.delete(oldest[0]);
      oldest[1].breaker.dispose();
    }
    return found.breaker;
  }

  all(): readonly NamedBreaker[] {
    return [this.#registry, this.#tracking, ...this.#artifacts.values()];
  }

  close(): void {
    for (const { breaker } of this.all()) breaker.dispose();
  }

  #make(name: NamedBreaker['name'], uri: string, who: string): NamedBreaker {
    const { limits, clock, events, pulseOf, isKnown } = this.#options;
    const { host, origin } = new URL(uri);
    const breaker = new Breaker({
      who,
      limits,
      clock,
      pulse: pulseOf?.(uri),
      isKnown: () => this.#hasAnswered(origin) || isKnown?.(uri) === true,
      onChange: (from, to, reason) => events.emit({ type: 'breaker_changed', name, host, from, to, reason }),
    });
    return { name, host, uri, breaker };
  }

  /** Its other parts answered: it is a server, and no wrong address. */
  #hasAnswered(origin: string): boolean {
    return this.all().some(part => new URL(part.uri).origin === origin && part.breaker.answeredItself);
  }
}
