import { access as reach, readdir } from 'node:fs/promises';
import type { Clock } from '../domain/clock.ts';
import { SidecarError, toSidecarError } from '../domain/errors.ts';
import type { EventBus } from '../domain/events.ts';
import type { Manifest } from '../domain/manifest.ts';
import type { Scope } from '../domain/scope.ts';
import type { ArtifactRoot } from '../domain/version.ts';
import type { TOO_LATE } from '../policy/abort.ts';
import { DiskWatch } from '../policy/disk-watch.ts';
import { Blobs } from './blobs.ts';
import { type CacheLimits, Collector } from './collector.ts';
import { makeDirectory } from './durable.ts';
import { type Intake, Staging } from './intake.ts';
import { Layout } from './layout.ts';
import { Lease, sweepDeadLeases } from './lease.ts';
import { type FetchedRoot, Manifests } from './manifests.ts';
import { Ownership } from './ownership.ts';
import { recoverRefs } from './recover.ts';
import { Refs } from './refs.ts';
import { type Reservation, Reservations } from './reservations.ts';
import { Snapshots } from './snapshots.ts';
import { Usage } from './usage.ts';

const SWEEP_MS = 60_000;
const UNLIMITED: CacheLimits = { maxBytes: Infinity, maxStaleMs: Infinity, models: new Set() };

/** Where bytes live. Renames give correctness; several processes may share one directory. */
export class Store {
  readonly layout: Layout;
  readonly refs: Refs;
  /** For questions that callers wait for. */
  readonly disk: DiskWatch;
  /** Why nothing can be written; null where it can. */
  readonly problem: SidecarError | null;
  readonly ownership: Ownership;
  readonly #lease: Lease | null;
  readonly #sweeper: NodeJS.Timeout;
  readonly #staging: Staging;
  readonly #snapshots: Snapshots;
  readonly #manifests: Manifests;
  readonly #usage: Usage;
  readonly collector: Collector;
  readonly #reservations: Reservations;

  private constructor(
    layout: Layout,
    access: Access,
    own: Scope,
    limits: CacheLimits,
    clock: Clock,
    events: EventBus,
  ) {
    this.layout = layout;
    this.disk = new DiskWatch(clock);
    this.problem = access.problem;
    this.ownership = access.ownership;
    this.#lease = access.lease;
    const tmp = access.lease?.dir ?? layout.tmp;
    // What a container left that was replaced by another shows only when its heartbeat has been missing for a while.
    const sweep = () => void sweepDeadLeases(layout.tmp, clock.now()).catch(() => undefined);
    this.#sweeper = setInterval(sweep, SWEEP_MS).unref();
    this.#staging = new Staging(new Blobs(layout, tmp));
    this.#usage = new Usage(layout);
    const onWriteError = (error: Error) => events.emit({ type: 'cache_unusable', error });
    this.refs = new Refs(layout, tmp, access.problem, onWriteError, this.#usage);
    this.#snapshots = new Snapshots(layout, tmp);
    this.#manifests = new Manifests(layout, tmp);
    const { refs, ownership } = this;
    this.collector = new Collector({
      layout,
      tmp,
      own,
      refs,
      usage: this.#usage,
      ownership,
      limits,
      clock,
      events,
    });
    this.#reservations = new Reservations(this.collector, limits.maxBytes, tmp);
  }

  /**
   * Makes the layout, removes what dead processes left, and takes over what is there. Where nothing can be written, what is
   * there is given all the same, and `problem` says why.
   * @throws SidecarError where nothing can be read either
   */
  static async open(
    cacheDir: string,
    own: Scope,
    clock: Clock,
    events: EventBus,
    limits = UNLIMITED,
  ): Promise<Store> {
    const layout = new Layout(cacheDir);
    const access = await accessTo(layout, cacheDir, clock);
    const store = new Store(layout, access, own, limits, clock, events);
    const rights = { tmp: access.lease?.dir ?? null, isAlone: access.isAlone };
    try {
      const { refs, dropped } = await recoverRefs(layout, own, store.#snapshots, rights);
      for (const { scope, ref } of refs) store.refs.adopt(scope, ref);
      events.emit({ type: 'cache_recovered', refs: refs.length, swept: access.swept, dropped });
      return store;
    } catch (error) {
      await store.close();
      throw unusable(cacheDir, error);
    }
  }

  /** Why nothing can be written in the directory; null where it can. */
  static async problemOf(cacheDir: string, clock: Clock): Promise<SidecarError | null> {
    try {
      const { lease, ownership, problem } = await accessTo(new Layout(cacheDir), cacheDir, clock);
      ownership.release();
      await lease?.release();
      return problem;
    } catch (error) {
      return unusable(cacheDir, error);
    }
  }

  /** What was fetched of an artifact root, if its snapshot is still there. */
  async find(scope: Scope, root: ArtifactRoot): Promise<FetchedRoot | null> {
    const found = await this.#manifests.find(scope, root);
    if (found === null) return null;
    // First noted, then looked at: whoever collects looks at the note before it removes anything.
    await this.#usage.found(found.snapshot);
    return (await this.hasSnapshot(found.snapshot)) ? found : null;
  }

  /** For the files of one version; to be closed. Whatever somebody removed from the cache meanwhile is made again. */
  async intake(): Promise<Intake> {
    if (this.problem !== null) throw this.problem;
    await makeLayout(this.layout);
    await this.#lease?.ensure();
    return this.#staging.open();
  }

  /**
   * Room for a download, before its first byte.
   * @param bytes that the listing names
   * @throws SidecarError `disk_full`
   */
  async reserve(bytes: number): Promise<Reservation> {
    return await this.#reservations.reserve(bytes);
  }

  /** What the cache may hold, and held when it was last counted; null where nobody has counted yet. */
  get space() {
    return this.#reservations.state;
  }

  /** Makes a snapshot of files of which every one has been taken in; durable when it resolves. */
  async commit(scope: Scope, root: ArtifactRoot, manifest: Manifest, intake: Intake): Promise<FetchedRoot> {
    await intake.commit(manifest.files);
    const fetched = { manifest, snapshot: await this.#snapshots.commit(scope, root, manifest) };
    await this.#manifests.save(scope, root, fetched);
    this.#usage.built(fetched.snapshot);
    this.#reservations.added(manifest.bytes);
    return fetched;
  }

  async hasSnapshot(id: string): Promise<boolean> {
    return await this.#snapshots.has(id);
  }

  /** Whether the disk still answers. */
  async isThere(): Promise<boolean | typeof TOO_LATE> {
    const look = () =>
      reach(this.layout.root).then(
        () => true,
        () => false,
      );
    return await this.disk.ask('root', look);
  }

  async close(): Promise<void> {
    clearInterval(this.#sweeper);
    this.ownership.release();
    await this.#reservations.close();
    await this.refs.flush();
    await this.#lease?.release();
  }
}

interface Access {
  readonly lease: Lease | null;
  readonly ownership: Ownership;
  readonly problem: SidecarError | null;
  readonly swept: number;
  readonly isAlone: boolean;
}

async function accessTo(layout: Layout, cacheDir: string, clock: Clock): Promise<Access> {
  try {
    await makeLayout(layout);
    const swept = await sweepDeadLeases(layout.tmp, clock.now());
    const isAlone = (await readdir(layout.tmp)).length === 0;
    const lease = await Lease.take(layout.tmp);
    return { lease, ownership: await Ownership.of(layout.tmp, lease, clock), problem: null, swept, isAlone };
  } catch (error) {
    const problem = unusable(cacheDir, error);
    await reach(layout.refs).catch(() => {
      throw problem;
    });
    const ownership = await Ownership.of(layout.tmp, null, clock);
    return { lease: null, ownership, problem, swept: 0, isAlone: false };
  }
}

async function makeLayout(layout: Layout): Promise<void> {
  for (const dir of layout.shared) await makeDirectory(dir, 0o755);
  for (const dir of layout.private) await makeDirectory(dir, 0o700);
}

function unusable(dir: string, cause: unknown): SidecarError {
  if (cause instanceof SidecarError) return cause;
  const { code, message, hint } = toSidecarError(cause);
  return new SidecarError(code, `The cache directory ${dir} does not work: ${message.replace(/\.$/, '')}.`, {
    hint: hint ?? 'Make it writable for this user, or set SIDECAR_CACHE_DIR to a directory that is.',
    cause,
  });
}
