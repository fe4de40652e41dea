import { Allowance } from '../policy/allowance.ts';
import { FairLimit, type Slots } from '../policy/fair-limit.ts';

/** Files in flight over all runs. */
export const FILES_IN_FLIGHT = 16;
/** Small files over all runs that are answered and on their way still, without a slot: what is left of them is to send. */
const TAILS_IN_FLIGHT = 32;
/** Large files under way over all runs: some wait for the disk, and where that hangs each holds one of libuv's threads. */
const LARGE_IN_WORK = 24;
/** Small files in memory over all runs: 32 MiB at most, where the disk is slower than the network. */
const BODIES_IN_MEMORY = 128;
/** Of one run: more than its slots, for those whose tails come, or that wait for the disk. */
export const FILES_IN_WORK = 64;
/** Connections to one server: as many again for listings, which files that hang must not hold up. */
export const DOWNLOADS_AT_ONCE = 2 * (FILES_IN_FLIGHT + TAILS_IN_FLIGHT);

/** What one run may do at once. */
export interface RunLimits {
  /** Its share of the files in flight. */
  readonly slots: Slots;
  /** Of all runs. */
  readonly tails: Allowance;
  /** Its share of the large files under way. */
  readonly larges: Slots;
  /** Its share of the small files that are gathered in memory, or wait there for the disk. */
  readonly bodies: Slots;
}

/** What all runs may do at once. */
export class DownloadLimits {
  readonly #slots = new FairLimit(FILES_IN_FLIGHT);
  readonly #tails = new Allowance(TAILS_IN_FLIGHT);
  readonly #larges = new FairLimit(LARGE_IN_WORK);
  readonly #bodies = new FairLimit(BODIES_IN_MEMORY);

  forRun(): RunLimits {
    return {
      slots: this.#slots.forRun(),
      tails: this.#tails,
      larges: this.#larges.forRun(),
      bodies: this.#bodies.forRun(),
    };
  }
}
