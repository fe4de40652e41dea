import type { Clock } from '../../domain/clock.ts';
import { type SidecarError, toSidecarError } from '../../domain/errors.ts';
import { isThere } from '../disk/durable.ts';
import { Layout } from '../disk/layout.ts';
import { Lease } from '../disk/lease.ts';
import { Blobs } from '../intake/blobs.ts';
import { Snapshots } from '../intake/snapshots.ts';
import { Manifests } from '../records/manifests.ts';
import { Inspector } from './inspect.ts';
import { Pace } from './pace.ts';
import { Quarantine } from './quarantine.ts';
import { rebuild } from './rebuild.ts';
import { type Harm, Scrub, type Scrubbed } from './scrub.ts';

export interface VerifyOptions {
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** @param problem why it could not be moved to the quarantine; null where it was */
  readonly onHarm: (harm: Harm, problem: SidecarError | null) => void;
}

/**
 * Verifies a cache once, as fast as it goes, also beside processes that work on it. Refs are left to those, or to the next
 * start: a link or a record that names a snapshot in quarantine gives nothing, and nobody's newer one is overwritten.
 * @returns null where there is no cache
 */
export async function verifyCache(cacheDir: string, options: VerifyOptions): Promise<Scrubbed | null> {
  const layout = new Layout(cacheDir);
  if (!(await isThere(layout.root))) return null;
  const lease = await Lease.take(layout.tmp).catch(toSidecarError);
  try {
    return await verify(layout, lease, options);
  } finally {
    if (lease instanceof Lease) await lease.release();
  }
}

async function verify(
  layout: Layout,
  lease: Lease | SidecarError,
  { clock, signal, onHarm }: VerifyOptions,
): Promise<Scrubbed> {
  const quarantine = lease instanceof Lease ? new Quarantine(layout, lease.dir) : null;
  const take = async (harm: Harm): Promise<void> => {
    if (!(lease instanceof Lease)) throw lease;
    await quarantine?.take(harm);
    await rebuild(harm.roots, partsOf(layout, lease.dir));
  };
  await quarantine?.finish();
  const inspector = new Inspector({ pace: new Pace(Number.POSITIVE_INFINITY), clock, signal });
  const tell = (harm: Harm) =>
    take(harm).then(
      () => onHarm(harm, null),
      (error: unknown) => onHarm(harm, toSidecarError(error)),
    );
  const scrubbed = await new Scrub({ layout, inspector, onHarm: tell }).run();
  await quarantine?.expire(clock.now());
  return scrubbed;
}

function partsOf(layout: Layout, tmp: string) {
  return {
    blobs: new Blobs(layout, tmp),
    snapshots: new Snapshots(layout, tmp),
    manifests: new Manifests(layout, tmp),
  };
}
