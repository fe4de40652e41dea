import { formatBytes } from '../../domain/bytes.ts';
import { SidecarError } from '../../domain/errors.ts';
import { type Collected, type Disk, MIN_FREE_SHARE } from './collector.ts';

const RAISE = 'Raise SIDECAR_CACHE_MAX_BYTES.';
const FREE = 'Free space on the file system of SIDECAR_CACHE_DIR, or move the cache to a larger one.';

/** @param needed bytes that one version takes */
export function tooLarge(needed: number, maxBytes: number): SidecarError {
  const words = `The version needs ${formatBytes(needed)}, more than the whole cache may hold: SIDECAR_CACHE_MAX_BYTES is ${formatBytes(maxBytes)}.`;
  return new SidecarError('disk_full', words, { hint: RAISE });
}

/** @param othersBytes that other downloads have reserved */
export function diskFull(
  needed: number,
  maxBytes: number,
  { plan, usedBytes, shortBytes }: Collected,
  disk: Disk,
  othersBytes: number,
): SidecarError {
  const others = othersBytes > 0 ? `, ${formatBytes(othersBytes)} more are on their way` : '';
  const message = [
    `The cache has no room for the ${formatBytes(needed)} that the version needs; ${formatBytes(shortBytes)} are lacking.`,
    `It holds ${formatBytes(usedBytes)} of ${formatBytes(maxBytes)} (SIDECAR_CACHE_MAX_BYTES)${others}.`,
    wordsFor(disk),
    ...(plan.holders === '' ? [] : [`Most is held by ${plan.holders}.`]),
  ];
  const isDisk = usedBytes - plan.gracedBytes + needed + othersBytes <= maxBytes;
  return new SidecarError('disk_full', message.join(' '), { hint: isDisk ? FREE : RAISE });
}

function wordsFor({ freeBytes, minFreeBytes, totalBytes }: Disk): string {
  const share = `${MIN_FREE_SHARE * 100} % (${formatBytes(minFreeBytes)})`;
  const free = `${formatBytes(freeBytes)} of ${formatBytes(totalBytes)} are free`;
  return freeBytes < minFreeBytes
    ? `On its file system only ${free} as it is, less than the ${share} that must stay so: nothing can be added.`
    : `On its file system ${free}, of which ${share} must stay so.`;
}
