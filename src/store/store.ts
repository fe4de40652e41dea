import { access as reach, readdir } from 'node:fs/promises';
import type { Clock } from '../domain/clock.ts';
import { SidecarError, toSidecarError } from '../domain/errors.ts';
import type { EventBus } from '../domain/events.ts';
import type { Manifest } from '../domain/manifest.ts';
import type { Scope } from '../domain/scope.ts';
import type { ArtifactRoot } from '../domain/version.ts';
import { within } from '../policy/abort.ts';
import { Blobs } from './blobs.ts';
import { makeDirectory } from './durable.ts';
import { type Intake, Staging } from './intake.ts';
import { Layout } from './layout.ts';
import { Lease, sweepDeadLeases } from './lease.ts';
import { type FetchedRoot, Manifests } from './manifests.ts';
import { Partials } from './partials.ts';
import { recoverRefs } from './recover.ts';
import { Refs } from './refs.ts';
import { Snapshots } from './snapshots.ts';

const SWEEP_MS = 60_000;
/** A process that is told to stop has a few seconds for all of it. */
const LEAVE_MS = 2_000;

/** Where bytes live. Renames give correctness; several processes may share one directory. */
export class Store {
  readonly layout: Layout;
  readonly refs: Refs;
  /** Why nothing can be written; null where it can. */
  readonly problem: SidecarError | null;
  /** Beginnings of large files, for the next try. */
  readonly partials: Partials;
  readonly #lease: Lease | null;
  readonly #sweeper: NodeJS.Timeout;
  readonly #staging: Staging;
  readonly #snapshots: Snapshots;
  readonly #manifests: Manifests;

  private constructor(layout: Layout, access: Access, clock: Clock, events: EventBus) {
    this.layout = layout;
    this.problem = access.problem;
    this.#lease = access.lease;
    const tmp = access.lease?.dir ?? layout.tmp;
    // What a container left that was replaced by another shows only when its heartbeat has been missing for a while.
    this.partials = new Partials(layout, tmp);
    const sweep = async () => {
      await sweepDeadLeases(layout.tmp, clock.now(), dead => this.partials.rescue(dead));
      await this.partials.sweep(clock.now());
    };
    this.#sweeper = setInterval(() => void sweep().catch(() => undefined), SWEEP_MS).unref();
    this.#staging = new Staging(new Blobs(layout, tmp), this.partials);
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
    const found = await this.#manifests.find(scope, root);
    return found !== null && (await this.hasSnapshot(found.snapshot)) ? found : null;
  }

  /** For the files of one version; to be closed. Whatever somebody removed from the cache meanwhile is made again. */
  async intake(): Promise<Intake> {
    if (this.problem !== null) throw this.problem;
    await makeLayout(this.layout);
    await this.#lease?.ensure();
    return this.#staging.open();
  }

  /** Makes a snapshot of files of which every one has been taken in; durable when it resolves. */
  async commit(scope: Scope, root: ArtifactRoot, manifest: Manifest, intake: Intake): Promise<FetchedRoot> {
    await intake.commit(manifest.files);
    const fetched = { manifest, snapshot: await this.#snapshots.commit(scope, root, manifest) };
    await this.#manifests.save(scope, root, fetched);
    return fetched;
  }

  async hasSnapshot(id: string): Promise<boolean> {
    return await this.#snapshots.has(id);
  }

  async close(): Promise<void> {
    clearInterval(this.#sweeper);
    await this.refs.flush();
    // Runs that were ended put what they have of large files aside.
    await within(LEAVE_MS, this.partials.idle());
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
    const partials = new Partials(layout, layout.tmp);
    const swept = await sweepDeadLeases(layout.tmp, now, dead => partials.rescue(dead));
    await partials.sweep(now);
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
