import type { Clock } from '../domain/clock.ts';
import type { Phases } from '../domain/events.ts';

/** How long each phase takes, the one that fails included. */
export class PhaseTimer {
  readonly #clock: Clock;
  #phases: Phases = {};
  #current: { readonly name: keyof Phases; readonly since: number } | null = null;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Ends the phase before. */
  begin(name: keyof Phases): void {
    this.end();
    this.#current = { name, since: this.#clock.monotonic() };
  }

  end(): Phases {
    if (this.#current !== null) {
      const ms = Math.round(this.#clock.monotonic() - this.#current.since);
      this.#phases = { ...this.#phases, [this.#current.name]: ms };
      this.#current = null;
    }
    return this.#phases;
  }
}
