import type { BlobItem, RefItem, SnapshotItem, SpareItem } from './content.ts';

/** In bytes. */
export interface Space {
  /** What the cache may hold. */
  readonly maxBytes: number;
  /** What must stay free on its file system. */
  readonly minFreeBytes: number;
  readonly freeBytes: number;
  /** What downloads under way may yet add to the cache's content. */
  readonly reservedBytes: number;
  /** As much of it as is not on the disk yet. */
  readonly unwrittenBytes: number;
  /** What somebody is about to add. */
  readonly neededBytes: number;
}

export type Why = 'litter' | 'superseded' | 'space' | 'unused' | 'too_stale';

export type Removal =
  | {
      readonly kind: 'snapshot';
      readonly why: Why;
      readonly item: SnapshotItem;
      /** Contents that no other snapshot has. */
      readonly blobs: readonly BlobItem[];
    }
  | { readonly kind: 'blob'; readonly why: Why; readonly item: BlobItem }
  | {
      readonly kind: 'orphan';
      readonly why: Why;
      readonly path: string;
      /** Contents that no snapshot has. */
      readonly blobs: readonly BlobItem[];
    }
  | { readonly kind: 'spare'; readonly why: Why; readonly item: SpareItem }
  | { readonly kind: 'ref'; readonly why: Why; readonly item: RefItem };

export interface CollectPlan {
  /** In this order. */
  readonly removals: readonly Removal[];
  /** That there are before. */
  readonly snapshots: number;
  readonly usedBytes: number;
  readonly freedBytes: number;
  /** As much of it as is of directories and records. */
  readonly freedOverheadBytes: number;
  /** Superseded or given so lately that somebody may be reading it: the limit may be exceeded by so much. */
  readonly gracedBytes: number;
  /** What is lacking before anything is removed; 0 where there is room. */
  readonly excessBytes: number;
  /** What is lacking all the same. */
  readonly shortBytes: number;
  /** What holds the space, in words, where some is lacking all the same. */
  readonly holders: string;
}
