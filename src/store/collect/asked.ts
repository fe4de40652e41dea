import type { Inventory, RefItem, SnapshotItem } from './content.ts';

/** A snapshot that nothing but old questions keep, with the refs that do. */
export interface AskedSnapshot {
  readonly item: SnapshotItem;
  readonly refs: readonly RefItem[];
  /** When it was last built, found, given or confirmed. */
  readonly lastUsedAt: number;
}

/**
 * Whether the ref is only the record of an old question: a version by its number, a logged model or a path of a run, which
 * nobody configured. It means the same for ever, so it can be fetched again; a stage, an alias or `latest` cannot.
 */
function isAsked({ uri, isExpendable }: RefItem): boolean {
  return isExpendable && (uri.kind === 'version' || uri.kind === 'logged_model' || uri.kind === 'run');
}

/** What a ref points to, and what a ref that moves pointed to before. */
export function keptBy(ref: RefItem): readonly string[] {
  const { current, previous } = ref;
  return [current, isAsked(ref) ? null : previous].filter(id => id !== null);
}

/** What nothing but old questions keep, least recently used first. */
export function askedSnapshots({ snapshots, refs }: Inventory): readonly AskedSnapshot[] {
  const bySnapshot = Map.groupBy(refs.filter(isAsked), ({ current }) => current);
  const others = new Set(refs.filter(ref => !isAsked(ref)).flatMap(keptBy));
  return snapshots
    .flatMap((item): readonly AskedSnapshot[] => {
      const asked = bySnapshot.get(item.id);
      if (asked === undefined || others.has(item.id)) return [];
      const lastUsedAt = Math.max(item.lastUsedAt, ...asked.map(({ confirmedAt }) => confirmedAt ?? 0));
      return [{ item, refs: asked, lastUsedAt }];
    })
    .toSorted((a, b) => a.lastUsedAt - b.lastUsedAt);
}
