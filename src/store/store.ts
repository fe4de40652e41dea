import { mkdir } from 'node:fs/promises';
import type { Clock } from '../domain/clock.ts';
import type { EventBus } from '../domain/events.ts';
import type { Manifest } from '../domain/manifest.ts';
import type { Scope } from '../domain/scope.ts';
import type { ArtifactRoot } from '../domain/version.ts';
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

/** Where bytes live. Renames give correctness; several processes may share one directory. */
export class Store {
  readonly layout: Layout;
  readonly refs: Refs;
  readonly #lease: Lease;
  readonly #sweeper: NodeJS.Timeout;
  readonly #staging: Staging;
  readonly #snapshots: Snapshots;
  readonly #manifests: Manifests;

  private constructor(layout: Layout, lease: Lease, clock: Clock, events: EventBus) {
    this.layout = layout;
    this.#lease = lease;
    // What a container left that was replaced by another shows only when its heartbeat has been missing for a while.
    const sweep = () => void sweepDeadLeases(layout.tmp, clock.now()).catch(() => undefined);
    this.#sweeper = setInterval(sweep, SWEEP_MS).unref();
    this.#staging = new Staging(new Blobs(layout, lease.dir));
    this.refs = new Refs(layout, lease.dir, error => events.emit({ type: 'cache_unusable', error }));
    this.#snapshots = new Snapshots(layout, lease.dir);
    this.#manifests = new Manifests(layout, lease.dir);
  }

  /** Makes the layout, removes what dead processes left, and takes over what is there. */
  static async open(cacheDir: string, own: Scope, clock: Clock, events: EventBus): Promise<Store> {
    const layout = new Layout(cacheDir);
    await mkdir(cacheDir, { recursive: true });
    for (const dir of layout.shared) await makeDirectory(dir, 0o755);
    for (const dir of layout.private) await makeDirectory(dir, 0o700);
    const swept = await sweepDeadLeases(layout.tmp, clock.now());
    const store = new Store(layout, await Lease.take(layout.tmp), clock, events);
    const { refs, dropped } = await recoverRefs(layout, own, store.#snapshots, store.#lease.dir);
    for (const { scope, ref } of refs) store.refs.adopt(scope, ref);
    events.emit({ type: 'cache_recovered', refs: refs.length, swept, dropped });
    return store;
  }

  /** What was fetched of an artifact root, if its snapshot is still there. */
  async find(scope: Scope, root: ArtifactRoot): Promise<FetchedRoot | null> {
    const found = await this.#manifests.find(scope, root);
    return found !== null && (await this.hasSnapshot(found.snapshot)) ? found : null;
  }

  /** For the files of one version; to be closed. */
  intake(): Intake {
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
    await this.#lease.release();
  }
}
