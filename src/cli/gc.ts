import type { CacheOptions } from '../config/cache.ts';
import { formatBytes } from '../domain/bytes.ts';
import { formatModelUri } from '../domain/model-uri.ts';
import { oneLine } from '../http/report.ts';
import type { CollectedOnce } from '../store/collect/collect-once.ts';
import { CommandFailure, type ExitCode, USAGE } from './failure.ts';

type Collection = NonNullable<CollectedOnce['collection']>;
type Removal = Collection['plan']['removals'][number];

/** Collects what the cache need not keep, or only says what that would be. */
export async function gc(options: CacheOptions, isDry: boolean): Promise<ExitCode> {
  const { collectOnce } = await import('../app.ts');
  const collected = await collectOnce(options, isDry);
  if (collected === null) throw new CommandFailure(`there is no cache in ${options.cacheDir}.`, USAGE);
  const { collection, ownerPid } = collected;
  if (collection === null) throw ownedBy(ownerPid);
  process.stdout.write(`${wordsOf(collection, isDry).map(oneLine).join('\n')}\n`);
  return 0;
}

function ownedBy(pid: number | null): CommandFailure {
  return new CommandFailure(
    `nothing was removed: a running process${pid === null ? '' : ` (pid ${pid})`} owns this cache and collects by itself, whenever it needs room and every 10 min. Stop it first, or see with --dry-run what would go.`,
  );
}

function wordsOf({ plan, usedBytes }: Collection, isDry: boolean): readonly string[] {
  const { removals, gracedBytes, shortBytes } = plan;
  const snapshots = removals.filter(({ kind }) => kind === 'snapshot').length;
  const freed = plan.usedBytes - usedBytes;
  const verb = isDry ? 'Would remove' : 'Removed';
  const lines = [
    ...removals.map(lineOf),
    `${verb} ${counted(snapshots, 'version')}, ${counted(removals.length - snapshots, 'other thing')}; ${isDry ? 'would free' : 'freed'} ${formatBytes(freed)}.`,
    `Kept: ${counted(plan.snapshots - snapshots, 'version')}, ${formatBytes(usedBytes)} in all: what refs point to, what they pointed to before, and what was used in the last 24 h or fits.`,
  ];
  if (gracedBytes > 0)
    lines.push(
      `Of that ${formatBytes(gracedBytes)} may still be read or published, and can go in a few minutes.`,
    );
  if (shortBytes > 0)
    lines.push(
      `The cache is ${formatBytes(shortBytes)} over what it may hold, and nothing more may go: raise SIDECAR_CACHE_MAX_BYTES, or free space on its file system.`,
    );
  return lines;
}

const WHY = {
  litter: 'nobody has it any more',
  superseded: 'superseded over 24 h ago',
  space: 'superseded or put aside, and space is needed',
  unused: 'nobody asked for it lately, and space is needed',
  too_stale: 'too old to be given, and space is needed',
};

function lineOf(removal: Removal): string {
  return `${nameOf(removal)} (${WHY[removal.why]})`;
}

function nameOf(removal: Removal): string {
  switch (removal.kind) {
    case 'snapshot':
      return `snapshots/${removal.item.id}`;
    case 'blob':
      return `blobs/sha256/${removal.item.sha256}`;
    case 'orphan':
      return removal.path;
    case 'spare':
      return removal.item.path;
    case 'ref':
      return `${removal.item.path}: ${formatModelUri(removal.item.uri)}`;
  }
}

function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}
