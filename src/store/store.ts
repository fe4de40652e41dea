import { basename, dirname } from 'node:path';
import pLimit from 'p-limit';
import type { Clock } from '../domain/clock.ts';
import type { SidecarError } from '../domain/errors.ts';
import type { EventBus } from '../domain/events.ts';
import type { Manifest } from '../domain/manifest.ts';
import type { Scope } from '../domain/scope.ts';
import type { VersionRoot } from '../domain/version.ts';
import { type TOO_LATE, unlessRunning, within } from '../policy/abort.ts';
import { DiskWatch } from '../policy/disk-watch.ts';
import { type Access, accessTo, hanging, makeLayout, sweepLitter, unusable } from './access.ts';
import { type CacheLimits, Collector } from './collect/collector.ts';
import { type Reservation, Reservations } from './collect/reservations.ts';
import { isThere } from './disk/durable.ts';
import { costsOf } from './disk/file-system.ts';
import { Layout } from './disk/layout.ts';
import type { Lease } from './disk/lease.ts';
import type { Ownership } from './disk/ownership.ts';
import { Blobs } from './intake/blobs.ts';
import { type Intake, Staging } from './intake/intake.ts';
import { Partials } from './intake/partials.ts';
import { Snapshots } from './intake/snapshots.ts';
import { Doubts, type Fetching } from './records/doubts.ts';
import { type FetchedRoot, Manifests } from './records/manifests.ts';
import { recoverRefs } from './records/recover.ts';
import { Refs } from './records/refs.ts';
import { Texts } from './records/texts.ts';
import { Unread } from './records/unread.ts';
import { Usage } from './records/usage.ts';
import { Quarantine } from './verify/quarantine.ts';
import { type Quarantined, Repair } from './verify/repair.ts';
import type { Harm } from './verify/scrub.ts';
import { WriteProbe } from './write-probe.ts';

const SWEEP_MS = 60_000;
const UNLIMITED: CacheLimits = { maxBytes: Infinity, maxStaleMs: Infinity, models: new Set() };
/** Fetches that look or commit at the same time. Where the disk hangs, each holds one of libuv's threads. */
const MOST_AT_ONCE = 8;
/** A process that is told to stop has a few seconds for all of it. */
const LEAVE_MS = 2_000;

/** Where bytes live. Renames give correctness; several processes may share one directory. */
export class Store {
  readonly layout: Layout;
  readonly refs: Refs;
  /** For questions that callers wait for. */
  readonly disk: DiskWatch;
  /** Why nothing could be written at the start; null where it could. */
  readonly problem: SidecarError | null;
  readonly #writes: WriteProbe;
  readonly ownership: Ownership;
  /** Beginnings of large files, for the next try. */
  readonly partials: Partials;
  /** Of asynchronous reloads. */
  readonly jobs: Texts;
  /** What MLflow last said, for when it does not. */
  readonly answers: Texts;
  readonly #lease: Lease | null;
  readonly #sweeper: NodeJS.Timeout;
  readonly #unread: Unread;
  readonly #staging: Staging;
  readonly #snapshots: Snapshots;
  readonly usage: Usage;
  readonly doubts: Doubts;
  readonly collector: Collector;
  readonly #reservations: Reservations;
  readonly #quarantine: Quarantine;
  readonly #repair: Repair;
  readonly #looks = pLimit(MOST_AT_ONCE);
  readonly #commits = pLimit(MOST_AT_ONCE);

  private constructor(
    layout: Layout,
    access: Access,
    own: Scope,
    limits: CacheLimits,
    clock: Clock,
    events: EventBus,
  ) {
    this.layout = layout;
    this.disk = new DiskWatch();
    this.problem = access.problem;
    this.ownership = access.ownership;
    this.#lease = access.lease;
    const tmp = access.lease?.dir ?? layout.tmp;
    this.#writes = new WriteProbe(dirname(layout.root), tmp);
    // What a container left that was replaced by another shows only when its heartbeat has been missing for a while.
    const sweep = unlessRunning(() => sweepLitter(layout, clock));
    this.#sweeper = setInterval(sweep, SWEEP_MS).unref();
    this.partials = new Partials(layout, tmp);
    this.jobs = new Texts(layout.jobs, tmp, access.problem);
    this.answers = new Texts(layout.answers, tmp, access.problem);
    this.#staging = new Staging(new Blobs(layout, tmp), this.partials);
    this.usage = new Usage(layout, clock);
    const onWriteError = (error: Error) => events.emit({ type: 'cache_unusable', error });
    this.refs = new Refs(layout, tmp, access.problem, onWriteError, this.usage);
    this.#unread = new Unread(own, this.refs);
    this.#snapshots = new Snapshots(layout, tmp);
    const manifests = new Manifests(layout, tmp);
    this.doubts = new Doubts(layout, manifests, this.refs, access.problem !== null);
    const ours = { layout, tmp, own, refs: this.refs, ownership: this.ownership };
    this.collector = new Collector({ ...ours, usage: this.usage, limits, clock, events });
    this.#reservations = new Reservations(this.collector, this.ownership, limits.maxBytes, tmp);
    this.#quarantine = new Quarantine(layout, tmp);
    const parts = { blobs: this.#staging.blobs, snapshots: this.#snapshots, manifests };
    const { refs, problem } = this;
    this.#repair = new Repair({ quarantine: this.#quarantine, refs, parts, problem });
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
    const access = await accessTo(new Layout(cacheDir), cacheDir, own, clock);
    const layout = new Layout(cacheDir, access.fileSystem);
    const store = new Store(layout, access, own, limits, clock, events);
    const rights = { tmp: access.lease?.dir ?? null, isAlone: access.isAlone };
    try {
      if (access.lease !== null) await store.#quarantine.finish();
      const { refs, dropped, unreadable } = await recoverRefs(layout, own, store.#snapshots, rights);
      for (const { scope, ref, isOfFuture } of refs) store.refs.adopt(scope, ref, isOfFuture);
      await store.doubts.recover();
      events.emit({ type: 'cache_recovered', refs: refs.length, swept: access.swept, dropped });
      const costs = costsOf(access.fileSystem);
      if (costs.length > 0) events.emit({ type: 'file_system_lacks', costs });
      store.#unread.set(unreadable);
      const [first] = unreadable;
      if (first !== undefined)
        events.emit({ type: 'cache_unusable', error: unusable(cacheDir, first.error) });
      return store;
    } catch (error) {
      await store.close();
      throw unusable(cacheDir, error);
    }
  }

  /** What was fetched of an artifact root for a version, if its snapshot is still there. @param of see Doubts */
  async find(scope: Scope, wanted: VersionRoot, of: 'now' | 'before' = 'now'): Promise<FetchedRoot | null> {
    if (this.disk.isHanging) throw this.hangs();
    const found = await this.#looks(() => this.doubts.find(scope, wanted, of));
    if (found === null || this.refs.withdrawn.has(found.snapshot)) return null;
    // First noted, then looked at: whoever collects looks at the note before it removes anything.
    await this.usage.found(found.snapshot);
    return (await this.hasSnapshot(found.snapshot)) ? found : null;
  }

  /** Tries whether the disk still takes anything; why not, or null. What could not be saved meanwhile is saved then. */
  async probe(): Promise<SidecarError | null> {
    if (this.problem !== null) return this.problem;
    const trouble = await this.#writes.look();
    if (trouble === null) this.refs.saveAgain();
    return trouble;
  }

  /** For the files of one version; to be closed. Whatever somebody removed from the cache meanwhile is made again. */
  async intake(): Promise<Intake> {
    if (this.problem !== null) throw this.problem;
    this.#writes.refuse();
    if (this.disk.isHanging) throw this.hangs();
    await this.#looks(async () => {
      await makeLayout(this.layout);
      await this.#lease?.ensure();
    });
    return await this.#staging.open();
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
  async commit(
    scope: Scope,
    wanted: VersionRoot,
    manifest: Manifest,
    intake: Intake,
    fetching: Fetching | null = null,
  ): Promise<FetchedRoot> {
    return await this.#commits(async () => {
      await intake.commit(manifest.files);
      const fetched = { manifest, snapshot: await this.#snapshots.commit(scope, wanted, manifest) };
      await this.doubts.record(scope, wanted, fetched, fetching);
      // By this process' clock: that of the disk may be another.
      await this.usage.found(fetched.snapshot);
      this.#reservations.added(manifest.bytes);
      this.refs.withdrawn.readmit(fetched.snapshot);
      return fetched;
    });
  }

  /** Gives nothing of what is damaged from this moment on; what needs no MLflow for that is made anew. */
  async quarantine(harm: Harm): Promise<Quarantined> {
    return await this.#repair.take(harm);
  }

  /** Removes what has been in quarantine for long enough. */
  async expireQuarantine(now: number): Promise<void> {
    if (this.problem === null) await this.#quarantine.expire(now);
  }

  /** False only where it is certain that it is gone. */
  async hasSnapshot(id: string): Promise<boolean> {
    return await this.#snapshots.has(id);
  }

  /** Whether a process that works on the directory is still there. @param process by the name of its lease */
  async isAlive(process: string): Promise<boolean> {
    const living = await this.ownership.living();
    return living.some(({ dir }) => basename(dir) === process);
  }

  /** What is said while the disk does not answer. */
  hangs(): SidecarError {
    return hanging(this.layout);
  }

  /** Whether the disk still answers. */
  async isThere(): Promise<boolean | typeof TOO_LATE> {
    return await this.disk.ask('root', () => isThere(this.layout.root).catch(() => false));
  }

  async close(): Promise<void> {
    clearInterval(this.#sweeper);
    this.#unread.stop();
    this.ownership.release();
    await this.#reservations.close();
    await this.refs.flush();
    // Runs that were ended put what they have of large files aside.
    await within(LEAVE_MS, this.partials.idle());
    await this.#lease?.release();
  }
}
