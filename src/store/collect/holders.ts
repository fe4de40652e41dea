import { formatBytes } from '../../domain/bytes.ts';
import { formatModelUri } from '../../domain/model-uri.ts';
import { keptBy } from './asked.ts';
import type { Inventory, RefItem } from './content.ts';

/** The largest are named; the message stays short. */
const NAMED = 3;
const LONGEST_NAME = 60;

/** What holds the space that could not be freed, the largest first, in words; empty where no ref holds any. */
export function holdersOf({ snapshots, refs }: Inventory, forgotten: ReadonlySet<RefItem>): string {
  const bytesOf = new Map(
    snapshots.map(({ id, blobs }) => [id, blobs.reduce((sum, { size }) => sum + size, 0)]),
  );
  const holders = refs
    .filter(ref => !forgotten.has(ref))
    .map(ref => {
      const ids = [...new Set(keptBy(ref))];
      const bytes = ids.reduce((sum, id) => sum + (bytesOf.get(id) ?? 0), 0);
      return { uri: formatModelUri(ref.uri), versions: ids.length, bytes };
    })
    .filter(({ bytes }) => bytes > 0)
    .toSorted((a, b) => b.bytes - a.bytes);
  const named = holders.slice(0, NAMED).map(({ uri, versions, bytes }) => {
    const name = uri.length > LONGEST_NAME ? `${uri.slice(0, LONGEST_NAME)}…` : uri;
    return `${name} (${versions === 1 ? '1 version' : `${versions} versions`}, ${formatBytes(bytes)})`;
  });
  const more = holders.length - named.length;
  return [...named, ...(more > 0 ? [`${more} more`] : [])].join(', ');
}
