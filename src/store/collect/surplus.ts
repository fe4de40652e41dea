import { keptBy } from './asked.ts';
import type { Inventory, RefItem, SnapshotItem } from './content.ts';

/** Snapshots that nothing points to any more, once it is a day old; the contents may all be shared, so that none of it needs space. */
export const MOST_LOOSE = 1_000;
/** Credentials and workspaces of callers of which something is kept. */
export const MOST_SCOPES = 256;

/**
 * Refs that go however much room there is: of callers' credentials and workspaces beyond the ones that were used last, since a caller
 * whose token is a new one each time makes them without end; and those that give nothing, and were last noted before `before`.
 * @param usedBefore a scope that was used since stays
 */
export function surplusRefs(
  { snapshots, refs }: Inventory,
  usedBefore: number,
  before: number,
): readonly RefItem[] {
  const byId = new Map(snapshots.map(item => [item.id, item]));
  const expendable = refs.filter(ref => ref.isExpendable && ref.path !== '');
  const scopes = [...Map.groupBy(expendable.filter(isOfCaller), ({ scopeId }) => scopeId).values()]
    .map(ofScope => ({ ofScope, usedAt: Math.max(...ofScope.map(ref => lastUseOf(ref, byId))) }))
    .toSorted((a, b) => a.usedAt - b.usedAt)
    .slice(0, -MOST_SCOPES)
    .filter(({ usedAt }) => usedAt <= usedBefore)
    .flatMap(({ ofScope }) => ofScope);
  // Where none is seen at all, it is the disk that shows none.
  const isGivingNothing = (ref: RefItem) => byId.size > 0 && !keptBy(ref).some(id => byId.has(id));
  const empty = expendable.filter(ref => isGivingNothing(ref) && lastUseOf(ref, byId) <= before);
  return [...new Set([...scopes, ...empty])];
}

/** What the configured registry shows to readers is in `refs/`. */
function isOfCaller({ path }: RefItem): boolean {
  return path.startsWith('state/');
}

function lastUseOf(ref: RefItem, byId: ReadonlyMap<string, SnapshotItem>): number {
  const used = keptBy(ref).map(id => byId.get(id)?.lastUsedAt ?? 0);
  return Math.max(ref.confirmedAt ?? 0, ref.notedAt, ...used);
}
