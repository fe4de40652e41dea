import { randomUUID } from 'node:crypto';
import pLimit from 'p-limit';
import type { Clock } from '../domain/clock.ts';
import type { SidecarEvent } from '../domain/events.ts';
import { formatModelUri, type ModelUri } from '../domain/model-uri.ts';
import type { DeadlineReloader } from './reloader.ts';

/** Callers' own fetches come first. */
const AT_ONCE = 2;
/** How soon what could not be fetched is tried again at the earliest. */
const AGAIN_MS = 60_000;

interface Wanted {
  readonly uri: ModelUri;
  /** Also where it is there still, and only cannot be read. */
  readonly force: boolean;
}

/** Fetches again what was damaged, of the sidecar's own refs; what others' credentials fetched, they fetch when they ask. */
export class Repair {
  readonly #reloader: Pick<DeadlineReloader, 'renew'>;
  readonly #limit = pLimit(AT_ONCE);
  readonly #wanted = new Map<string, Wanted>();
  readonly #clock: Clock;
  #triedAt = Number.NEGATIVE_INFINITY;

  constructor(reloader: Pick<DeadlineReloader, 'renew'>, clock: Clock) {
    this.#reloader = reloader;
    this.#clock = clock;
  }

  /** Tries again what could not be fetched where `event` says that a server answers again, at most once a minute. */
  heard(event: SidecarEvent): void {
    const answers =
      event.type === 'run_finished' || (event.type === 'breaker_changed' && event.to === 'closed');
    const since = this.#clock.monotonic() - AGAIN_MS;
    // What is on its way has a turn of its own to come.
    if (!answers || this.#wanted.size === 0 || this.#limit.activeCount > 0 || this.#triedAt > since) return;
    void this.retry();
  }

  /** Resolves when each is there, or could not be fetched; then it is tried again by `retry`. */
  async repair(uris: readonly ModelUri[], force = false): Promise<void> {
    const fresh = uris.filter(uri => !this.#wanted.has(formatModelUri(uri))).map(uri => ({ uri, force }));
    for (const wanted of fresh) this.#wanted.set(formatModelUri(wanted.uri), wanted);
    await this.#renewAll(fresh);
  }

  /** What could not be fetched so far. */
  async retry(): Promise<void> {
    await this.#renewAll([...this.#wanted.values()]);
  }

  async #renewAll(all: readonly Wanted[]): Promise<void> {
    this.#triedAt = this.#clock.monotonic();
    await Promise.all(all.map(wanted => this.#limit(() => this.#renew(wanted))));
  }

  async #renew({ uri, force }: Wanted): Promise<void> {
    const caller = { requestId: randomUUID(), airflow: {}, authorization: null };
    await this.#reloader.renew(uri, caller, force).then(
      () => this.#wanted.delete(formatModelUri(uri)),
      // The run has told why.
      () => undefined,
    );
  }
}
