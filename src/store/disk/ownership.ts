import type { Clock } from '../../domain/clock.ts';
import { unlessRunning } from '../../policy/abort.ts';
import { type Lease, type LiveLease, liveLeases } from './lease.ts';

const CHECK_MS = 10_000;

/**
 * Of several processes on one cache directory one is the owner, who tidies up: the living one that came first. It passes on
 * by itself when that one ends: at once to a process on the same host that looks, elsewhere, and where it only hangs, when the
 * heartbeat is a minute old. Two may take themselves for the owner for a moment, so whatever an owner does must bear that.
 */
export class Ownership {
  readonly #tmp: string;
  readonly #lease: Lease | null;
  readonly #clock: Clock;
  readonly #timer: NodeJS.Timeout;
  #isOwner = false;

  private constructor(tmp: string, lease: Lease | null, clock: Clock) {
    this.#tmp = tmp;
    this.#lease = lease;
    this.#clock = clock;
    this.#timer = setInterval(
      unlessRunning(() => this.check()),
      CHECK_MS,
    ).unref();
  }

  /** @param lease of this process; without one, as on a read-only disk, it never owns anything */
  static async of(tmp: string, lease: Lease | null, clock: Clock): Promise<Ownership> {
    const ownership = new Ownership(tmp, lease, clock);
    await ownership.check();
    return ownership;
  }

  /** The living processes but this one. */
  async others(): Promise<readonly LiveLease[]> {
    return (await this.living()).filter(({ dir }) => dir !== this.#lease?.dir);
  }

  /** As of the last look, at most 10 s ago. */
  isOwner(): boolean {
    return this.#isOwner;
  }

  /** Looks now. */
  async check(): Promise<boolean> {
    const [first] = this.#lease === null ? [] : await this.living();
    this.#isOwner = first !== undefined && first.dir === this.#lease?.dir;
    return this.#isOwner;
  }

  /** The processes that work on the directory, the owner first. */
  async living(): Promise<readonly LiveLease[]> {
    return await liveLeases(this.#tmp, this.#clock).catch(() => []);
  }

  release(): void {
    clearInterval(this.#timer);
    this.#isOwner = false;
  }
}
