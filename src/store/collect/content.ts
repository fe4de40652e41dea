import type { ModelUri } from '../../domain/model-uri.ts';
import type { Steps } from '../../policy/slices.ts';

/** Of one content. Here as below sizes are in bytes and times in milliseconds since 1970. */
export interface BlobItem {
  readonly sha256: string;
  readonly size: number;
  /** Hard links besides its own name; 0 where the file system has none and snapshots hold copies. */
  readonly links: number;
  readonly changedAt: number;
}

export interface SnapshotItem {
  readonly id: string;
  /** Its record's file name; null where there is none, so that nobody can find it again. */
  readonly manifest: string | null;
  readonly blobs: readonly BlobItem[];
  /** When it was built, was found again, or stopped being current: the latest of these. */
  readonly lastUsedAt: number;
  /** What its directories and its record take. */
  readonly overheadBytes: number;
  /** Whether this process knows that it was superseded then, and that nobody has found it since. */
  readonly isSuperseded: boolean;
}

export interface RefItem {
  readonly uri: ModelUri;
  readonly scopeId: string;
  /** Of its record, from the layout's root. */
  readonly path: string;
  readonly current: string | null;
  /** What was published before. */
  readonly previous: string | null;
  readonly confirmedAt: number | null;
  /** When MLflow last said what it means; 0 where it never did. */
  readonly notedAt: number;
  /** Whether it may be forgotten: nobody configured it, and no other process may be serving it. */
  readonly isExpendable: boolean;
}

/** A record or a note of a snapshot that is gone. */
interface OrphanItem {
  /** From the layout's root. */
  readonly path: string;
  /** What a record says that its snapshot had. */
  readonly blobs: readonly BlobItem[];
  /** Null for a record: it comes after its snapshot and goes after its contents, so that one alone was left by a crash. */
  readonly changedAt: number | null;
}

/** The beginning of a large file that nobody is downloading, or something damaged that was put aside. */
export interface SpareItem {
  /** From the layout's root. */
  readonly path: string;
  readonly bytes: number;
  readonly changedAt: number;
}

/** What is on the disk. */
export interface Inventory {
  readonly snapshots: readonly SnapshotItem[];
  readonly blobs: readonly BlobItem[];
  readonly refs: readonly RefItem[];
  readonly orphans: readonly OrphanItem[];
  /** What is missed least first. */
  readonly spares: readonly SpareItem[];
  /** What other processes have of the large files that they are downloading. */
  readonly underWayBytes: number;
  /** What asynchronous reloads and answers that are kept take, which have limits of their own. */
  readonly stateBytes: number;
}

/** A record and the directory that it may have to itself, on most file systems. */
const REF_BYTES = 8_192;
/** What directories and records may take before it counts. */
const FREE_OVERHEAD_BYTES = 1_048_576;

/** Which contents how many snapshots have, as snapshots go. */
export class Content {
  readonly #holders = new Map<BlobItem, number>();
  readonly #dropped = new Set<BlobItem>();
  #contentBytes: number;
  #overheadBytes: number;

  private constructor({ spares, blobs, underWayBytes, stateBytes, refs, snapshots }: Inventory) {
    this.#contentBytes = underWayBytes;
    for (const { bytes } of spares) this.#contentBytes += bytes;
    for (const { size } of blobs) this.#contentBytes += size;
    this.#overheadBytes = stateBytes + refs.length * REF_BYTES;
    for (const { overheadBytes } of snapshots) this.#overheadBytes += overheadBytes;
  }

  /** All that counts. */
  get bytes(): number {
    return this.#contentBytes + this.overheadBytes;
  }

  /** As much of it as is of directories and records. */
  get overheadBytes(): number {
    return Math.max(0, this.#overheadBytes - FREE_OVERHEAD_BYTES);
  }

  static *of(inventory: Inventory): Steps<Content> {
    const content = new Content(inventory);
    for (const { blobs } of inventory.snapshots) {
      content.#hold(blobs);
      yield;
    }
    return content;
  }

  #hold(blobs: readonly BlobItem[]): void {
    for (const blob of blobs) {
      this.#holders.set(blob, this.holders(blob) + 1);
      if (blob.links === 0) this.#contentBytes += blob.size;
    }
  }

  holders(blob: BlobItem): number {
    return this.#holders.get(blob) ?? 0;
  }

  /** Of downloads that are being made a snapshot just now: what was reserved for them counts still. */
  *arrivedSince(blobs: readonly BlobItem[], since: number): Steps<number> {
    let bytes = 0;
    for (const blob of blobs) {
      if (this.holders(blob) === 0 && blob.changedAt > since) bytes += blob.size;
      yield;
    }
    return bytes;
  }

  /** Takes a snapshot away; what nothing else has goes with it. */
  release(snapshot: SnapshotItem): readonly BlobItem[] {
    this.#overheadBytes -= snapshot.overheadBytes;
    return snapshot.blobs.filter(blob => {
      const others = this.holders(blob) - 1;
      this.#holders.set(blob, others);
      if (blob.links === 0) this.#contentBytes -= blob.size;
      return others === 0 && this.drop(blob);
    });
  }

  drop(blob: BlobItem): boolean {
    if (this.#dropped.has(blob)) return false;
    this.#dropped.add(blob);
    this.#contentBytes -= blob.size;
    return true;
  }

  removeSpare({ bytes }: SpareItem): void {
    this.#contentBytes -= bytes;
  }

  removeRef(): void {
    this.#overheadBytes -= REF_BYTES;
  }
}
