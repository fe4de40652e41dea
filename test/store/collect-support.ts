import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { type Clock, systemClock } from '../../src/domain/clock.ts';
import { EventBus, type SidecarEvent } from '../../src/domain/events.ts';
import { type ModelUri, parseModelUri } from '../../src/domain/model-uri.ts';
import type { Scope } from '../../src/domain/scope.ts';
import type { CacheLimits } from '../../src/store/collect/collector.ts';
import { Store } from '../../src/store/store.ts';
import { commitAll, filesBelow, OWN, temporaryDirectory, versionOf } from './support.ts';

export const URI = parseModelUri('models:/churn/Production');
export const MINUTE_MS = 60_000;
export const HOUR_MS = 60 * MINUTE_MS;
/** Of each version's own file. */
export const SIZE = 10_000;

/** The system's, set forward. */
class LaterClock implements Clock {
  #aheadMs = 0;

  now(): number {
    return systemClock.now() + this.#aheadMs;
  }

  monotonic(): number {
    return systemClock.monotonic() + this.#aheadMs;
  }

  advance(ms: number): void {
    this.#aheadMs += ms;
  }
}

export interface Limited {
  readonly dir: string;
  readonly store: Store;
  readonly clock: LaterClock;
  readonly events: readonly SidecarEvent[];
}

export async function openLimited(
  limits: Partial<CacheLimits>,
  dir?: string,
  own: Scope = OWN,
): Promise<Limited> {
  const cacheDir = dir ?? (await temporaryDirectory());
  const clock = new LaterClock();
  const events: SidecarEvent[] = [];
  const bus = new EventBus();
  bus.subscribe(event => events.push(event));
  const all = { maxBytes: 1e9, maxStaleMs: 1e12, models: new Set<string>(), ...limits };
  const store = await Store.open(cacheDir, own, clock, bus, all);
  onTestFinished(() => store.close());
  return { dir: cacheDir, store, clock, events };
}

/** As a run does it: room, files, snapshot, ref. Every version has a file of its own, `SIZE` bytes long. */
export async function load(
  { store, clock }: Pick<Limited, 'store' | 'clock'>,
  version: number,
  {
    uri = URI,
    own = OWN,
    size = SIZE,
  }: Partial<Record<'uri', ModelUri> & Record<'own', Scope> & Record<'size', number>> = {},
): Promise<string> {
  const room = await store.reserve(size);
  try {
    const content = { MLmodel: `version: ${version}\n`.padEnd(size, '.') };
    const { snapshot, manifest } = await commitAll(store, content, [versionOf(String(version)).source], own);
    const { digest, files, bytes } = manifest;
    const published = { version: versionOf(String(version)), snapshot, digest, files: files.length, bytes };
    await store.refs.publish(own, uri, published, version, clock.now());
    return snapshot;
  } finally {
    room.release();
  }
}

export async function snapshotsIn(dir: string): Promise<readonly string[]> {
  return (await readdir(join(dir, 'v1/snapshots'))).toSorted();
}

export async function blobsIn(dir: string): Promise<number> {
  return (await filesBelow(join(dir, 'v1/blobs/sha256'))).length;
}
