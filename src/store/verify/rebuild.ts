import type { Blobs } from '../intake/blobs.ts';
import type { Snapshots } from '../intake/snapshots.ts';
import type { Manifests } from '../records/manifests.ts';
import type { StoredRoot } from './on-disk.ts';

export interface Parts {
  readonly blobs: Blobs;
  readonly snapshots: Snapshots;
  readonly manifests: Manifests;
}

/**
 * Makes snapshots that were moved away anew under their names, where every blob of theirs is whole: the damage was in the
 * snapshot alone, and needs no MLflow. Returns those that are there again.
 */
export async function rebuild(roots: readonly StoredRoot[], parts: Parts): Promise<ReadonlySet<string>> {
  const { blobs, snapshots, manifests } = parts;
  const rebuilt = new Set<string>();
  for (const root of roots) {
    if (!rebuilt.has(root.snapshot)) {
      if (!(await areWhole(root, blobs))) continue;
      await snapshots.rebuild(root.snapshot, root.manifest);
    }
    await manifests.saveAt(root.path, root);
    rebuilt.add(root.snapshot);
  }
  return rebuilt;
}

async function areWhole({ manifest }: StoredRoot, blobs: Blobs): Promise<boolean> {
  for (const file of manifest.files) {
    if (!(await blobs.has(file))) return false;
  }
  return true;
}
