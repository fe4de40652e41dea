import type { Clock } from '../../domain/clock.ts';
import { EventBus } from '../../domain/events.ts';
import type { Scope } from '../../domain/scope.ts';
import { sweepLitter, unusable } from '../access.ts';
import { isThere } from '../disk/durable.ts';
import { Layout } from '../disk/layout.ts';
import { Lease } from '../disk/lease.ts';
import { Ownership } from '../disk/ownership.ts';
import { Refs } from '../records/refs.ts';
import { Usage } from '../records/usage.ts';
import { type CacheLimits, type Collected, Collector, NO_DEMAND } from './collector.ts';

/** No record is of this scope: the refs of all registries are alike to whoever serves none. */
const NOBODY: Scope = { id: '', own: true };

export interface CollectOptions {
  readonly limits: CacheLimits;
  /** Only plans it, and changes nothing. */
  readonly isDry: boolean;
  readonly clock: Clock;
}

export interface CollectedOnce {
  /** Null where a living process owns the cache, and nothing was done. */
  readonly collection: Collected | null;
  /** Of the process that owns the cache; null where that is nobody but us. */
  readonly ownerPid: number | null;
}

/**
 * Collects a cache once. Nothing is recovered or repaired, and nothing is moved to where a certain registry's refs belong:
 * that is for a sidecar, which knows its registry.
 * @returns null where there is no cache
 * @throws SidecarError where nothing can be written and something would have to be
 */
export async function collectCache(cacheDir: string, options: CollectOptions): Promise<CollectedOnce | null> {
  const layout = new Layout(cacheDir);
  if (!(await isThere(layout.root))) return null;
  const looker = await Ownership.of(layout.tmp, null, options.clock);
  looker.release();
  const [owner] = await looker.living();
  const ownerPid = owner?.pid ?? null;
  if (options.isDry) {
    const collection = await collectorOf(layout, layout.tmp, looker, options).foresee();
    return { collection, ownerPid };
  }
  return ownerPid === null ? await collectAsOwner(layout, cacheDir, options) : { collection: null, ownerPid };
}

async function collectAsOwner(
  layout: Layout,
  cacheDir: string,
  options: CollectOptions,
): Promise<CollectedOnce> {
  // A sidecar that starts meanwhile sees that it is not alone.
  const lease = await Lease.take(layout.tmp).catch((error: unknown) => {
    throw unusable(cacheDir, error);
  });
  const ownership = await Ownership.of(layout.tmp, lease, options.clock);
  try {
    const [owner] = await ownership.living();
    if (!ownership.isOwner()) return { collection: null, ownerPid: owner?.pid ?? null };
    await sweepLitter(layout, options.clock);
    return {
      collection: await collectorOf(layout, lease.dir, ownership, options).collect(NO_DEMAND),
      ownerPid: null,
    };
  } finally {
    ownership.release();
    await lease.release();
  }
}

function collectorOf(layout: Layout, tmp: string, ownership: Ownership, options: CollectOptions): Collector {
  const { limits, clock } = options;
  const usage = new Usage(layout, clock);
  // Empty: what counts is on the disk, and nothing is noted in the background.
  const refs = new Refs(layout, tmp, null, () => undefined, usage);
  const events = new EventBus();
  return new Collector({ layout, tmp, own: NOBODY, refs, usage, ownership, limits, clock, events });
}
