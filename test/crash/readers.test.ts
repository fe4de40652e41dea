import { readFile, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { load, openLimited, SIZE, snapshotsIn } from '../store/collect-support.ts';

const READERS = 100;
const PUBLISHES = 300;
/** What a reader takes from one file to the next. */
const BETWEEN_MS = 20;

test('100 readers through 300 publishes under a quota of three versions: no reader error, no refused publish', async () => {
  const opened = await openLimited({ maxBytes: 3 * SIZE });
  await load(opened, 1);
  const link = join(opened.dir, 'v1/models/churn/Production');
  const faults: string[] = [];
  const versions = new Set<string>();
  const rounds = Array.from({ length: READERS }, () => 0);
  const over = new AbortController();
  const reader = async (_: unknown, index: number) => {
    while (!over.signal.aborted) {
      try {
        const dir = await realpath(link);
        const before = await readFile(join(dir, 'MLmodel'), 'utf8');
        await sleep(BETWEEN_MS + Math.random() * BETWEEN_MS);
        const after = await readFile(join(dir, 'MLmodel'), 'utf8');
        if (before.length !== SIZE || before !== after) faults.push(`torn: ${before.slice(0, 20)}`);
        versions.add(/\d+/.exec(before)?.[0] ?? '');
        rounds[index] = (rounds[index] ?? 0) + 1;
      } catch (error) {
        faults.push(String(error));
      }
    }
  };
  const readers = Array.from({ length: READERS }, reader);
  for (let version = 2; version <= PUBLISHES; version++) {
    await load(opened, version);
    // Half a minute goes by, in which everybody ends what he reads: what came before is collected.
    if (version % 25 === 0) {
      const before = [...rounds];
      while (rounds.some((round, index) => round === before[index])) await sleep(BETWEEN_MS);
      opened.clock.advance(31_000);
    }
  }
  over.abort();
  await Promise.all(readers);
  expect(faults).toEqual([]);
  expect(rounds.every(round => round > 10)).toBe(true);
  expect(versions.size).toBeGreaterThan(20);
  const collected = opened.events.flatMap(event =>
    event.type === 'cache_collected' ? [event.snapshots] : [],
  );
  expect(collected.reduce((sum, count) => sum + count, 0)).toBeGreaterThan(PUBLISHES - 50);
  expect((await snapshotsIn(opened.dir)).length).toBeLessThan(30);
});
