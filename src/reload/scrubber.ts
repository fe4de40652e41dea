import type { Clock } from '../domain/clock.ts';
import { toSidecarError } from '../domain/errors.ts';
import type { EventBus, SidecarEvent } from '../domain/events.ts';
import type { ModelUri } from '../domain/model-uri.ts';
import { within } from '../policy/abort.ts';
import type { Cache } from '../store/cache.ts';
import type { Store } from '../store/store.ts';
import { Inspector } from '../store/verify/inspect.ts';
import { Pace } from '../store/verify/pace.ts';
import { type Harm, Scrub } from '../store/verify/scrub.ts';
import type { DeadlineReloader } from './reloader.ts';
import { Repair } from './repair.ts';

/** A whole default cache (20 GiB) in about 45 min; a hundredth to a tenth of what disks give. */
const BYTES_PER_SECOND = 8 * 1024 * 1024;
const FIRST_AFTER_MS = 5 * 60_000;
const EVERY_MS = 24 * 3_600_000;
/** How soon to look again where the cache is not open, or another process sees to it. */
const AGAIN_MS = 60_000;
/** A disk that hangs does not hold up the end of the process. */
const STOP_MS = 1_000;

export interface ScrubberOptions {
  readonly cache: Cache;
  /** Whether this process is the one that looks after the cache. */
  readonly isOwner: () => boolean;
  readonly reloader: Pick<DeadlineReloader, 'renew'>;
  readonly clock: Clock;
  readonly events: EventBus;
  /** Milliseconds from the start to the first pass. */
  readonly scrubAfterMs?: number | undefined;
  readonly bytesPerSecond?: number;
}

/**
 * In how many milliseconds the next pass is due; it rests for the rest of a day after each began.
 * @param begunAt when the last pass began; null before the first
 */
export function msToNextPass(
  { startedAt, begunAt }: { readonly startedAt: number; readonly begunAt: number | null },
  firstAfterMs: number,
  now: number,
): number {
  return Math.max(0, (begunAt === null ? startedAt + firstAfterMs : begunAt + EVERY_MS) - now);
}

/** Verifies the cache in the background, over and over, and has what is damaged fetched again. */
export class Scrubber {
  readonly #options: ScrubberOptions;
  readonly #stopping = new AbortController();
  readonly #startedAt: number;
  readonly #repair: Repair;
  readonly #heard = (event: SidecarEvent) => this.#repair.heard(event);
  #begunAt: number | null = null;
  #timer: NodeJS.Timeout | null = null;
  #running: Promise<void> = Promise.resolve();

  constructor(options: ScrubberOptions) {
    this.#options = options;
    this.#startedAt = options.clock.monotonic();
    this.#repair = new Repair(options.reloader, options.clock);
    options.events.subscribe(this.#heard);
  }

  start(): void {
    const { clock, scrubAfterMs = FIRST_AFTER_MS } = this.#options;
    const times = { startedAt: this.#startedAt, begunAt: this.#begunAt };
    this.#arm(msToNextPass(times, scrubAfterMs, clock.monotonic()));
  }

  async stop(): Promise<void> {
    this.#options.events.unsubscribe(this.#heard);
    this.#stopping.abort(new Error('The sidecar is stopping.'));
    if (this.#timer !== null) clearTimeout(this.#timer);
    await within(STOP_MS, this.#running);
  }

  #arm(ms: number): void {
    if (this.#stopping.signal.aborted) return;
    this.#timer = setTimeout(() => {
      this.#running = this.#beat();
    }, ms).unref();
  }

  async #beat(): Promise<void> {
    const store = this.#options.cache.opened;
    if (store === null || !this.#mayLook(store)) return this.#arm(AGAIN_MS);
    this.#begunAt = this.#options.clock.monotonic();
    await this.pass(store).catch((error: unknown) => this.#failed(error));
    this.start();
  }

  /** A cache that can only be read has no owner: each process watches over what it gives itself. */
  #mayLook(store: Store): boolean {
    return store.problem !== null || this.#options.isOwner();
  }

  /** One pass; resolves when what it found has been fetched again, or could not be. */
  async pass(store: Store): Promise<void> {
    const { clock, events, bytesPerSecond = BYTES_PER_SECOND } = this.#options;
    const begunAt = clock.monotonic();
    const repairs = [this.#repair.retry()];
    const pace = new Pace(bytesPerSecond);
    const inspector = new Inspector({ pace, clock, signal: this.#stopping.signal });
    const onHarm = async (harm: Harm): Promise<void> => {
      const uris = await this.#quarantine(this.#options.cache.opened ?? store, harm);
      repairs.push(this.#repair.repair(uris, harm.unreadable.length > 0));
    };
    const scrubbed = await new Scrub({ layout: store.layout, inspector, onHarm }).run();
    await store.expireQuarantine(clock.now());
    events.emit({ type: 'scrub_finished', ...scrubbed, durationMs: clock.monotonic() - begunAt });
    await Promise.all(repairs);
  }

  /** Returns what gave it, of the sidecar's own. */
  async #quarantine(store: Store, harm: Harm): Promise<readonly ModelUri[]> {
    const { refs, problem: error } = await store.quarantine(harm);
    const { snapshots, modelUris } = harm;
    for (const { path, found, expected } of harm.damages) {
      const { sha256, size } = expected ?? { sha256: null, size: null };
      const what = { path, found, sha256, size };
      this.#options.events.emit({ type: 'blob_damaged', ...what, snapshots, modelUris, error });
    }
    return refs.filter(({ scope }) => scope.own).map(({ ref }) => ref.uri);
  }

  #failed(thrown: unknown): void {
    if (this.#stopping.signal.aborted) return;
    this.#options.events.emit({ type: 'cache_unusable', error: toSidecarError(thrown) });
  }
}
