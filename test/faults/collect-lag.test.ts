import { expect, test } from 'vitest';
import { parseModelUri } from '../../src/domain/model-uri.ts';
import { inSlices } from '../../src/policy/slices.ts';
import { planCollection } from '../../src/store/collect/collect-plan.ts';
import type { BlobItem, Inventory } from '../../src/store/collect/content.ts';

const VERSIONS = 10_000;
const FILES = 12;
const REFS = 1_000;
const NOW = 1_700_000_000_000;
const DAY_MS = 24 * 3_600_000;
const SPACE = { minFreeBytes: 0, freeBytes: 1e12, reservedBytes: 0, unwrittenBytes: 0, neededBytes: 0 };
/** Of the processor, in one turn of the event loop. In one go it took some 100 ms. */
const LONGEST_MS = 80;

function contents(name: string, count: number, links: number): readonly BlobItem[] {
  return Array.from({ length: count }, (_, n) => ({ sha256: `${name}-${n}`, size: 10, links, changedAt: 0 }));
}

/** Versions that share half of their contents. */
function largeInventory(): Inventory {
  const shared = contents('shared', FILES / 2, VERSIONS);
  const snapshots = Array.from({ length: VERSIONS }, (_, n) => ({
    id: `s${n}`,
    manifest: `m${n}.json`,
    blobs: [...shared, ...contents(`b${n}`, FILES / 2, 1)],
    lastUsedAt: NOW - 2 * DAY_MS - ((n * 7_919) % VERSIONS),
    overheadBytes: 0,
    isSuperseded: false,
  }));
  const refs = Array.from({ length: REFS }, (_, n) => ({
    uri: parseModelUri(`models:/m${n}/1`),
    scopeId: 'own',
    path: `refs/m${n}/1.json`,
    current: `s${n}`,
    previous: `s${n + REFS}`,
    confirmedAt: NOW,
    notedAt: NOW,
    isExpendable: false,
  }));
  const blobs = [...new Set(snapshots.flatMap(item => item.blobs))];
  return { snapshots, blobs, refs, orphans: [], spares: [], underWayBytes: 0, stateBytes: 0 };
}

/** Watches each turn of the event loop; tells how much of the processor the longest took. Others on the machine do not count. */
function longestTurn(): () => Promise<number> {
  let longestUs = 0;
  let before = process.cpuUsage();
  let turn: NodeJS.Immediate;
  const look = () => {
    const { user, system } = process.cpuUsage(before);
    longestUs = Math.max(longestUs, user + system);
    before = process.cpuUsage();
    turn = setImmediate(look);
  };
  turn = setImmediate(look);
  return async () => {
    await new Promise(setImmediate);
    clearImmediate(turn);
    return longestUs / 1_000;
  };
}

test('planning a collection of 10,000 versions holds nobody up', async () => {
  const inventory = largeInventory();
  const longest = longestTurn();
  const started = performance.now();
  const plan = await inSlices(planCollection(inventory, { ...SPACE, maxBytes: 100_000 }, 1e12, NOW));
  const ms = performance.now() - started;
  const longestMs = await longest();
  console.table([{ versions: VERSIONS, ms: Math.round(ms), longestMs: Math.round(longestMs) }]);
  expect(plan.removals).toHaveLength(VERSIONS - 2 * REFS);
  expect(longestMs).toBeLessThan(LONGEST_MS);
});
