/**
 * Preloaded into a sidecar: its cache directory does not tell upper from lower case, as on macOS, SMB and FAT. Every name below
 * SIDECAR_CACHE_DIR is made lower-case on its way to the disk.
 */
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';

const CACHE = process.env.SIDECAR_CACHE_DIR;

function folded(path) {
  if (typeof path !== 'string' || !path.startsWith(CACHE)) return path;
  return CACHE + path.slice(CACHE.length).toLowerCase();
}

for (const room of [fs, fs.promises]) {
  for (const [kind, original] of Object.entries(room)) {
    if (typeof original !== 'function' || !/^[a-z]/.test(kind)) continue;
    const patched = (...args) =>
      original(...[folded(args[0]), folded(args[1])].slice(0, args.length), ...args.slice(2));
    room[kind] = Object.defineProperties(patched, Object.getOwnPropertyDescriptors(original));
  }
}
syncBuiltinESMExports();
