import type { Steps } from '../../policy/slices.ts';
import { type AskedSnapshot, askedSnapshots, keptBy } from './asked.ts';
import {
  type BlobItem,
  Content,
  type Inventory,
  type RefItem,
  type SnapshotItem,
  type SpareItem,
} from './content.ts';
import { holdersOf } from './holders.ts';
import type { CollectPlan, Removal, Space, Why } from './plan.ts';
import { MOST_LOOSE, surplusRefs } from './surplus.ts';

/** A superseded snapshot, or a spare, is kept so long unless space is needed. */
const KEPT_MS = 24 * 3_600_000;
/** For readers that resolved a ref just before it was switched: they open their files within this time. */
export const READER_GRACE_MS = 30_000;
/** For what another process is about to publish: from its first link to the record that names the snapshot. */
export const IN_FLIGHT_GRACE_MS = 5 * 60_000;
/** For whoever was given a path and loads it: until then it goes after everything else. */
export const GIVEN_GRACE_MS = 5 * 60_000;
/** Down to this share of what the cache may hold, so that not every download has to make room. */
const SWEPT_TO = 0.8;

/**
 * What to remove from the cache, in order: litter; where space is needed, what is not of a version; what was superseded over
 * a day ago, down to 80 % of what the cache may hold; where space is needed, what was superseded since; and in the end
 * refs that are too old to be given. Least recently used first. What a ref points to and what it pointed to before stay, as does what somebody may be reading or
 * about to publish.
 * @param maxStaleMs a ref that was confirmed longer ago is not given any more
 */
export function* planCollection(
  inventory: Inventory,
  space: Space,
  maxStaleMs: number,
  now: number,
): Steps<CollectPlan> {
  const planner = new Planner(inventory, space, now, yield* Content.of(inventory));
  yield* planner.sortOut();
  yield* planner.removeLitter();
  yield* planner.removeSurplus();
  planner.removeSpares(now - KEPT_MS);
  yield* planner.removeSuperseded(now - KEPT_MS, SWEPT_TO, 'superseded');
  yield* planner.removeSuperseded(now, 1, 'space');
  yield* planner.removeAsked(now - GIVEN_GRACE_MS);
  yield* planner.removeTooStale(now - maxStaleMs);
  yield* planner.removeAsked(now);
  return planner.plan();
}

class Planner {
  readonly #inventory: Inventory;
  readonly #space: Space;
  readonly #now: number;
  readonly #removals: Removal[] = [];
  readonly #content: Content;
  readonly #byId: ReadonlyMap<string, SnapshotItem>;
  /** How many refs keep a snapshot. */
  readonly #keepers = new Map<string, number>();
  /** What may go, least recently used first. */
  #candidates: readonly SnapshotItem[] = [];
  /** The same of what nothing but old questions keep. */
  #asked: readonly AskedSnapshot[] = [];
  readonly #forgotten = new Set<RefItem>();
  readonly #usedBytes: number;
  readonly #overheadBytes: number;
  #gracedBytes = 0;
  #excessBytes = 0;

  constructor(inventory: Inventory, space: Space, now: number, content: Content) {
    this.#inventory = inventory;
    this.#space = space;
    this.#now = now;
    this.#content = content;
    this.#byId = new Map(inventory.snapshots.map(item => [item.id, item]));
    for (const id of inventory.refs.flatMap(keptBy)) this.#keepers.set(id, this.#keepersOf(id) + 1);
    this.#usedBytes = content.bytes;
    this.#overheadBytes = content.overheadBytes;
  }

  /** What may go, and what not yet. */
  *sortOut(): Steps<void> {
    const loose = this.#inventory.snapshots.filter(({ id }) => this.#keepersOf(id) === 0);
    const asked = askedSnapshots(this.#inventory);
    const last = asked.at(-1);
    const isJustGiven = last !== undefined && last.lastUsedAt > this.#now - READER_GRACE_MS;
    this.#asked = isJustGiven ? asked.slice(0, -1) : asked;
    const graced = loose.filter(item => this.#isGraced(item));
    this.#gracedBytes = yield* this.#bytesOnlyIn(isJustGiven ? [...graced, last.item] : graced);
    const oldest = this.#now - IN_FLIGHT_GRACE_MS;
    this.#gracedBytes += yield* this.#content.arrivedSince(this.#inventory.blobs, oldest);
    this.#excessBytes = Math.max(0, this.#excess(1));
    const candidates = loose.filter(item => !this.#isGraced(item));
    this.#candidates = candidates.toSorted((a, b) => a.lastUsedAt - b.lastUsedAt);
  }

  *removeLitter(): Steps<void> {
    yield* this.#removeIf(item => item.manifest === null, 'litter');
    const oldest = this.#now - IN_FLIGHT_GRACE_MS;
    for (const { path, blobs, changedAt } of this.#inventory.orphans) {
      if (changedAt !== null && changedAt > oldest) continue;
      const dropped = blobs.filter(blob => this.#dropLoose(blob));
      this.#removals.push({ kind: 'orphan', why: 'litter', path, blobs: dropped });
    }
    for (const item of this.#inventory.blobs) {
      yield;
      if (item.changedAt > oldest || !this.#dropLoose(item)) continue;
      this.#removals.push({ kind: 'blob', why: 'litter', item });
    }
  }

  /** What only callers that come no more, or nobody, could be given, and what nothing has pointed to for a day beyond a number. */
  *removeSurplus(): Steps<void> {
    for (const ref of surplusRefs(this.#inventory, this.#now - GIVEN_GRACE_MS, this.#now - KEPT_MS)) {
      yield;
      this.#forget(ref, 'litter');
      this.#removeKeptBy(ref, 'litter');
    }
    let surplus = this.#candidates.length - MOST_LOOSE;
    yield* this.#removeIf(item => surplus-- > 0 && item.lastUsedAt <= this.#now - KEPT_MS, 'litter');
  }

  /** Those that are old always go. */
  removeSpares(changedBefore: number): void {
    const isOld = ({ changedAt }: SpareItem) => changedAt <= changedBefore;
    const { spares } = this.#inventory;
    for (const item of spares.filter(isOld)) this.#removeSpare(item, 'litter');
    for (const item of spares) {
      if (this.#excess(1) > 0 && !isOld(item)) this.#removeSpare(item, 'space');
    }
  }

  #removeSpare(item: SpareItem, why: Why): void {
    this.#content.removeSpare(item);
    this.#removals.push({ kind: 'spare', why, item });
  }

  #dropLoose(blob: BlobItem): boolean {
    return blob.links === 0 && this.#content.holders(blob) === 0 && this.#content.drop(blob);
  }

  /** Down to `share` of what the cache may hold. */
  *removeSuperseded(usedBefore: number, share: number, why: Why): Steps<void> {
    yield* this.#removeIf(item => this.#excess(share) > 0 && item.lastUsedAt <= usedBefore, why);
  }

  /** The one that was given last stays for those who open its files now, if it was given just now. */
  *removeAsked(usedBefore: number): Steps<void> {
    const kept: AskedSnapshot[] = [];
    for (const asked of this.#asked) {
      yield;
      // Those that are too old to be given went before.
      if (asked.refs.every(ref => this.#forgotten.has(ref))) continue;
      if (asked.lastUsedAt > usedBefore || this.#excess(1) <= 0) kept.push(asked);
      else this.#removeSnapshot(asked.item, 'unused', asked.refs);
    }
    this.#asked = kept;
  }

  #forget(item: RefItem, why: Why): void {
    this.#forgotten.add(item);
    this.#content.removeRef();
    this.#removals.push({ kind: 'ref', why, item });
  }

  *removeTooStale(confirmedBefore: number): Steps<void> {
    const old = this.#inventory.refs.filter(
      ref =>
        ref.isExpendable &&
        keptBy(ref).length > 0 &&
        !this.#forgotten.has(ref) &&
        (ref.confirmedAt ?? 0) < confirmedBefore,
    );
    for (const item of old.toSorted((a, b) => (a.confirmedAt ?? 0) - (b.confirmedAt ?? 0))) {
      yield;
      if (this.#excess(1) <= 0) return;
      this.#forget(item, 'too_stale');
      this.#removeKeptBy(item, 'too_stale');
    }
  }

  /** What a ref that was forgotten kept, and no other does. */
  #removeKeptBy(ref: RefItem, why: Why): void {
    for (const id of keptBy(ref)) {
      this.#keepers.set(id, this.#keepersOf(id) - 1);
      const snapshot = this.#byId.get(id);
      if (snapshot === undefined || this.#keepersOf(id) > 0 || this.#isGraced(snapshot)) continue;
      this.#removeSnapshot(snapshot, why);
    }
  }

  plan(): CollectPlan {
    const shortBytes = Math.max(0, this.#excess(1));
    return {
      removals: this.#removals,
      snapshots: this.#inventory.snapshots.length,
      usedBytes: this.#usedBytes,
      freedBytes: this.#usedBytes - this.#content.bytes,
      freedOverheadBytes: this.#overheadBytes - this.#content.overheadBytes,
      gracedBytes: this.#gracedBytes,
      excessBytes: this.#excessBytes,
      shortBytes,
      holders: shortBytes === 0 ? '' : holdersOf(this.#inventory, this.#forgotten),
    };
  }

  /** Bytes above `share` of what the cache may hold, by the quota or by what else is on the disk, whichever is worse. */
  #excess(share: number): number {
    const { maxBytes, minFreeBytes, freeBytes, reservedBytes, unwrittenBytes, neededBytes } = this.#space;
    const used = this.#content.bytes;
    const byQuota = used - this.#gracedBytes + reservedBytes + neededBytes - share * maxBytes;
    const room = this.#usedBytes + freeBytes - minFreeBytes;
    const byDisk = used + unwrittenBytes + neededBytes - share * room;
    return Math.max(byQuota, byDisk);
  }

  #keepersOf(id: string): number {
    return this.#keepers.get(id) ?? 0;
  }

  #isGraced({ isSuperseded, lastUsedAt }: SnapshotItem): boolean {
    return lastUsedAt > this.#now - (isSuperseded ? READER_GRACE_MS : IN_FLIGHT_GRACE_MS);
  }

  *#removeIf(isWanted: (item: SnapshotItem) => boolean, why: Why): Steps<void> {
    const kept: SnapshotItem[] = [];
    for (const item of this.#candidates) {
      yield;
      if (isWanted(item)) this.#removeSnapshot(item, why);
      else kept.push(item);
    }
    this.#candidates = kept;
  }

  #removeSnapshot(item: SnapshotItem, why: Why, refs: readonly RefItem[] = []): void {
    for (const ref of refs) this.#forget(ref, why);
    this.#removals.push({ kind: 'snapshot', why, item, blobs: this.#content.release(item) });
  }

  *#bytesOnlyIn(items: readonly SnapshotItem[]): Steps<number> {
    if (items.length === 0) return 0;
    const content = yield* Content.of(this.#inventory);
    for (const item of items) {
      content.release(item);
      yield;
    }
    return this.#usedBytes - content.bytes;
  }
}
