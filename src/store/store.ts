import { access as reach, readdir } from 'node:fs/promises';
import pLimit from 'p-limit';
import type { Clock } from '../domain/clock.ts';
import { SidecarError, toSidecarError } from '../domain/errors.ts';
import type { EventBus } from '../domain/events.ts';
import type { Manifest } from '../domain/manifest.ts';
import type { Scope } from '../domain/scope.ts';
import type { ArtifactRoot } from '../domain/version.ts';
import { type TOO_LATE, unlessRunning } from '../policy/abort.ts';
import { DiskWatch } from '../policy/disk-watch.ts';
import { Blobs } from './blobs.ts';
import { makeDirectory } from './durable.ts';
import { type Intake, Staging } from './intake.ts';
import { Layout } from './layout.ts';
import { Lease, sweepDeadLeases } from './lease.ts';
import { type FetchedRoot, Manifests } from './manifests.ts';
import { recoverRefs } from './recover.ts';
import { Refs } from './refs.ts';
import { Snapshots } from './snapshots.ts';

const SWEEP_MS = 60_000;
/** Fetches that look or commit at the same time. Where the disk hangs, each holds one of libuv's threads. */
const MOST_AT_ONCE = 8;

/** Where bytes live. Renames give correctness; several processes may share one directory. */
export class Store {
  readonly layout: Layout;
  readonly refs: Refs;
  /** For questions that callers wait for. */
  readonly disk: DiskWatch;
  /** Why nothing can be written; null where it can. */
  readonly problem: SidecarError | null;
  readonly #lease: Lease | null;
  readonly #sweeper: NodeJS.Timeout;
  readonly #staging: Staging;
  readonly #snapshots: Snapshots;
  readonly #manifests: Manifests;
  readonly #looks = pLimit(MOST_AT_ONCE);
  readonly #commits = pLimit(MOST_AT_ONCE);

  private constructor(layout: Layout, access: Access, clock: Clock, events: EventBus) {
    this.layout = layout;
    this.disk = new DiskWatch(clock);
    this.problem = access.problem;
    this.#lease = access.lease;
    const tmp = access.lease?.dir ?? layout.tmp;
    // What a container left that was replaced by another shows only when its heartbeat has been missing for a while.
    const sweep = unlessRunning(() => sweepDeadLeases(layout.tmp, clock.now()));
    this.#sweeper = setInterval(sweep, SWEEP_MS).unref();
    this.#staging = new Staging(new Blobs(layout, tmp));
    const onWriteError = (error: Error) => events.emit({ type: 'cache_unusable', error });
    this.refs = new Refs(layout, tmp, access.problem, onWriteError);
    this.#snapshots = new Snapshots(layout, tmp);
    this.#manifests = new Manifests(layout, tmp);
  }

  /**
   * Makes the layout, removes what dead processes left, and takes over what is there. Where nothing can be written, what is
   * there is given all the same, and `problem` says why.
   * @throws SidecarError where nothing can be read either
   */
  static async open(cacheDir: string, own: Scope, clock: Clock, events: EventBus): Promise<Store> {
    const layout = new Layout(cacheDir);
    const access = await accessTo(layout, cacheDir, clock.now());
    const store = new Store(layout, access, clock, events);
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
  static async problemOf(cacheDir: string, now: number): Promise<SidecarError | null> {
    try {
      const { lease, problem } = await accessTo(new Layout(cacheDir), cacheDir, now);
      await lease?.release();
      return problem;
    } catch (error) {
      return unusable(cacheDir, error);
    }
  }

  /** What was fetched of an artifact root, if its snapshot is still there. */
  async find(scope: Scope, root: ArtifactRoot): Promise<FetchedRoot | null> {
    if (this.disk.isHanging) throw this.hangs();
    const found = await this.#looks(() => this.#manifests.find(scope, root));
    return found !== null && (await this.hasSnapshot(found.snapshot)) ? found : null;
  }

  /** For the files of one version; to be closed. Whatever somebody removed from the cache meanwhile is made again. */
  async intake(): Promise<Intake> {
    if (this.problem !== null) throw this.problem;
    if (this.disk.isHanging) throw this.hangs();
    await this.#looks(async () => {
      await makeLayout(this.layout);
      await this.#lease?.ensure();
    });
    return this.#staging.open();
  }

  /** Makes a snapshot of files of which every one has been taken in; durable when it resolves. */
  async commit(scope: Scope, root: ArtifactRoot, manifest: Manifest, intake: Intake): Promise<FetchedRoot> {
    return await this.#commits(async () => {
      await intake.commit(manifest.files);
      const fetched = { manifest, snapshot: await this.#snapshots.commit(scope, root, manifest) };
      await this.#manifests.save(scope, root, fetched);
      return fetched;
    });
  }

  async hasSnapshot(id: string): Promise<boolean> {
    return await this.#snapshots.has(id);
  }

  /** What is said while the disk does not answer. */
  hangs(): SidecarError {
    return new SidecarError(
      'internal',
      `The disk of the cache directory ${this.layout.root} does not answer.`,
      {
        hint: 'What is cached is given from memory. Look at the file system of SIDECAR_CACHE_DIR.',
      },
    );
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
    await this.refs.flush();
    await this.#lease?.release();
  }
}

interface Access {
  readonly lease: Lease | null;
  readonly problem: SidecarError | null;
  readonly swept: number;
  readonly isAlone: boolean;
}

async function accessTo(layout: Layout, cacheDir: string, now: number): Promise<Access> {
  try {
    await makeLayout(layout);
    const swept = await sweepDeadLeases(layout.tmp, now);
    const isAlone = (await readdir(layout.tmp)).length === 0;
    return { lease: await Lease.take(layout.tmp), problem: null, swept, isAlone };
  } catch (error) {
    const problem = unusable(cacheDir, error);
    await reach(layout.refs).catch(() => {
      throw problem;
    });
    return { lease: null, problem, swept: 0, isAlone: false };
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
