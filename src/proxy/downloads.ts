import type { Clock } from '../domain/clock.ts';
import { SidecarError, toSidecarError } from '../domain/errors.ts';
import type { EventBus } from '../domain/events.ts';
import { formatModelUri } from '../domain/model-uri.ts';
import type { Scope } from '../domain/scope.ts';
import type { VersionRoot } from '../domain/version.ts';
import { TOO_LATE, within } from '../policy/abort.ts';
import type { Arriving } from '../reload/arriving.ts';
import type { Fetcher } from '../reload/fetcher.ts';
import type { DeadlineReloader } from '../reload/reloader.ts';
import { rootOf } from '../store/records/ref-record.ts';
import type { Store } from '../store/store.ts';
import type { Asker } from './asker.ts';
import type { Interests } from './interests.ts';

/** For so long the other files of a load fail as its first did: a client asks for all of them, some at a time, before it gives up. */
const FAILED_MS = 10_000;
const MOST_FAILED = 1_000;

export interface DownloadsOptions {
  readonly fetcher: Fetcher;
  readonly reloader: Pick<DeadlineReloader, 'renew'>;
  readonly interests: Interests;
  /** How long nothing of a download may come before its clients are told so. */
  readonly deadlineMs: number;
  readonly events: EventBus;
  readonly clock: Clock;
}

/** Versions that clients load before they are in the store: one download each, which clients follow and which goes on without them. */
export class Downloads {
  readonly #options: DownloadsOptions;
  readonly #publishing = new Set<string>();
  readonly #failed = new Map<string, { readonly error: SidecarError; readonly until: number }>();

  constructor(options: DownloadsOptions) {
    this.#options = options;
  }

  /** Begins the download of a version, unless it is under way. */
  join(store: Store, root: VersionRoot, { scope, caller }: Asker): Arriving {
    const [uri] = this.#options.interests.urisAt(scope, root);
    const modelUri = uri === undefined ? root.root.join(' ') : formatModelUri(uri);
    const origin = { runId: caller.requestId, modelUri, caller };
    const arriving = this.#options.fetcher.arrive(store, {
      scope,
      root,
      isGrowing: false,
      authorization: caller.authorization,
      workspace: caller.workspace,
      force: false,
      origin,
      // There is nothing else to give, and how long a client waits is no matter of the download.
      patience: { until: Number.POSITIVE_INFINITY, waits: () => true },
      took: () => undefined,
      brought: fetched => this.#options.events.emit({ type: 'version_brought', origin, fetched }),
      follow: () => undefined,
    });
    const key = keyOf(root, scope);
    this.#failed.delete(key);
    arriving.done.catch((error: unknown) => this.#remember(key, toSidecarError(error)));
    return arriving;
  }

  /** Why the last download of a version failed, where that was just now. A new load begins with a listing, and is not told. */
  failure(root: VersionRoot, { scope }: Asker): SidecarError | null {
    const found = this.#failed.get(keyOf(root, scope));
    return found !== undefined && this.#options.clock.monotonic() < found.until ? found.error : null;
  }

  #remember(key: string, error: SidecarError): void {
    this.#failed.delete(key);
    this.#failed.set(key, { error, until: this.#options.clock.monotonic() + FAILED_MS });
    const [oldest] = this.#failed.keys();
    if (oldest !== undefined && this.#failed.size > MOST_FAILED) this.#failed.delete(oldest);
  }

  /** Has what is loaded from a root published, under each name that clients know it by. Nobody waits for it. */
  publish(store: Store, root: VersionRoot, { scope, caller }: Asker): void {
    for (const uri of this.#options.interests.urisAt(scope, root)) {
      const key = `${scope.id} ${formatModelUri(uri)}`;
      const { published } = store.refs.get(scope, uri);
      const isOfVersion = published !== null && rootOf(published)?.version === root.version;
      const isThere = isOfVersion && !store.doubts.has(scope, root);
      if (isThere || this.#publishing.has(key)) continue;
      this.#publishing.add(key);
      // Why it could not be is told by the run.
      const forget = () => this.#publishing.delete(key);
      this.#options.reloader.renew(uri, caller).then(forget, forget);
    }
  }

  /**
   * What comes of a download, as long as anything of it comes.
   * @throws SidecarError `deadline_exceeded` where nothing has for too long; the download goes on
   */
  async inTime<T>(arriving: Arriving, work: Promise<T>): Promise<T> {
    const { deadlineMs, clock } = this.#options;
    for (;;) {
      const leftMs = arriving.lastProgressAt + deadlineMs - clock.monotonic();
      const result = await within(leftMs, work);
      if (result !== TOO_LATE) return result;
      if (clock.monotonic() - arriving.lastProgressAt >= deadlineMs) throw this.#stalled(arriving);
    }
  }

  /** The same for what comes in pieces. */
  async *pieces(arriving: Arriving, body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    const pieces = body[Symbol.asyncIterator]();
    try {
      for (;;) {
        const next = await this.inTime(arriving, pieces.next());
        if (next.done === true) return;
        yield next.value;
      }
    } finally {
      await pieces.return?.();
    }
  }

  #stalled({ lastFailure }: Arriving): SidecarError {
    const why = lastFailure === null ? '' : ` Last failure: ${lastFailure.message}`;
    return new SidecarError(
      'deadline_exceeded',
      `Nothing of the version came for ${this.#options.deadlineMs / 1_000} s.${why}`,
      { hint: 'Check the artifact store behind MLflow. The download goes on in the background.' },
    );
  }
}

function keyOf({ root, version }: VersionRoot, { id }: Scope): string {
  return JSON.stringify([id, root, version]);
}
