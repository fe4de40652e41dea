import { existsSync, readdirSync } from 'node:fs';
import { mkdir, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { type Clock, systemClock } from '../../src/domain/clock.ts';
import { collectCache } from '../../src/store/collect/collect-once.ts';
import { HOUR_MS, load, openLimited } from './collect-support.ts';
import { temporaryDirectory } from './support.ts';

const LIMITS = { maxBytes: 1e9, maxStaleMs: 1e12, models: new Set<string>() };

/** A cache that no process works on, with what a dead one left a while ago. */
async function deserted(): Promise<{ readonly dir: string; readonly tmp: string; readonly dead: string }> {
  const dir = await temporaryDirectory();
  const opened = await openLimited({}, dir);
  await load(opened, 1);
  await opened.store.close();
  const tmp = join(dir, 'v1/tmp');
  const dead = join(tmp, '4194304-dead');
  await mkdir(dead);
  const longAgo = new Date(Date.now() - HOUR_MS);
  await utimes(dead, longAgo, longAgo);
  return { dir, tmp, dead };
}

/** Which leases there are whenever the time is asked for, as it is for the plan and for what is carried out. */
function leasesSeen(tmp: string) {
  const seen = new Set<string>();
  const now = () => {
    for (const name of readdirSync(tmp)) if (existsSync(join(tmp, name, 'owner.json'))) seen.add(name);
    return systemClock.now();
  };
  const clock: Clock = { now, monotonic: () => systemClock.monotonic() };
  return { seen, clock };
}

test('whoever collects shows by a lease that it is there, and takes it back; what the dead left goes', async () => {
  const { dir, tmp, dead } = await deserted();
  const { seen, clock } = leasesSeen(tmp);
  expect(await collectCache(dir, { limits: LIMITS, isDry: false, clock })).toMatchObject({ ownerPid: null });
  expect([...seen]).toEqual([expect.stringMatching(new RegExp(`^${process.pid}-`))]);
  expect(existsSync(dead)).toBe(false);
  expect(readdirSync(tmp)).toEqual([]);
});

test('whoever only plans takes none, and leaves alone what the dead left', async () => {
  const { dir, tmp, dead } = await deserted();
  const { seen, clock } = leasesSeen(tmp);
  const planned = await collectCache(dir, { limits: LIMITS, isDry: true, clock });
  expect(planned?.collection).toMatchObject({ plan: { snapshots: 1, removals: [] } });
  expect([...seen]).toEqual([]);
  expect(existsSync(dead)).toBe(true);
});

test('beside an owner nothing is done, and its process is named', async () => {
  const { dir } = await openLimited({});
  const collected = await collectCache(dir, { limits: LIMITS, isDry: false, clock: systemClock });
  expect(collected).toEqual({ collection: null, ownerPid: process.pid });
});
