import type { Dirent } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { isSliceOver, nextSlice } from '../../policy/slices.ts';

export interface Found {
  /** Below the root, its parts separated by `/`. */
  readonly path: string;
  readonly entry: Dirent;
}

/** All but directories below `root`; everybody else has a turn meanwhile, however many they are. */
export async function* entriesOfTree(root: string): AsyncGenerator<Found, void, undefined> {
  const directories = [''];
  for (let dir = directories.pop(); dir !== undefined; dir = directories.pop()) {
    for (const entry of await readdir(join(root, dir), { withFileTypes: true })) {
      const path = dir === '' ? entry.name : `${dir}/${entry.name}`;
      if (entry.isDirectory()) directories.push(path);
      else yield { path, entry };
      if (isSliceOver()) await nextSlice();
    }
  }
}
