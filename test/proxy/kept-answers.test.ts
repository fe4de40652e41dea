import { writeFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { answered } from '../../src/proxy/answer.ts';
import { KeptAnswers } from '../../src/proxy/kept-answers.ts';
import { ManualClock } from '../reload/support.ts';
import { OWN } from '../store/support.ts';
import { openCache } from './support.ts';

const HOUR_MS = 3_600_000;

const of = (key: string) => ({ key, route: 'registered-models/get' as const });

/** The one answer that is written, once it is. */
async function written(cache: Awaited<ReturnType<typeof openCache>>): Promise<string> {
  const { answers } = cache.store();
  await expect.poll(() => answers.ids()).toHaveLength(1);
  return (await answers.ids())[0] ?? '';
}

test('an answer that stays the same is written once a minute, and another at once', async () => {
  const clock = new ManualClock();
  const cache = await openCache(clock);
  const kept = new KeptAnswers(cache, clock);
  kept.keep(OWN, of('a'), answered('1'), clock.now());
  const id = await written(cache);
  await cache.store().answers.write(id, 'touched');
  clock.advance(59_000);
  kept.keep(OWN, of('a'), answered('1'), clock.now());
  await delay(50);
  await expect(cache.store().answers.read(id)).resolves.toBe('touched');
  kept.keep(OWN, of('a'), answered('2'), clock.now());
  await expect.poll(() => cache.store().answers.read(id)).toContain('"text":"2"');
});

test('after a restart it is as old as it was, and what is damaged is nothing', async () => {
  const clock = new ManualClock();
  const cache = await openCache(clock);
  new KeptAnswers(cache, clock).keep(OWN, of('a'), answered('1', 404), clock.now());
  const id = await written(cache);
  clock.advance(10_000);
  await expect(new KeptAnswers(cache, clock).last(OWN, 'a', HOUR_MS)).resolves.toMatchObject({
    text: '1',
    status: 404,
    ageS: 10,
  });
  await expect(new KeptAnswers(cache, clock).last(OWN, 'a', 9_000)).resolves.toBeNull();
  await expect(
    new KeptAnswers(cache, clock).last({ id: 'other', own: false }, 'a', HOUR_MS),
  ).resolves.toBeNull();
  await writeFile(`${cache.store().layout.answers}/${id}.json`, '{"format":1');
  await expect(new KeptAnswers(cache, clock).last(OWN, 'a', HOUR_MS)).resolves.toBeNull();
});

test('one that was taken back is gone from the disk, too', async () => {
  const clock = new ManualClock();
  const cache = await openCache(clock);
  const kept = new KeptAnswers(cache, clock);
  kept.keep(OWN, of('a'), answered('1'), clock.now());
  kept.deny(OWN, 'a');
  await delay(100);
  await expect.poll(() => cache.store().answers.ids()).toEqual([]);
  await expect(kept.last(OWN, 'a', HOUR_MS)).resolves.toBeNull();
});

test('memory and disk are bounded: what was not asked for longest goes, and what is very long is not kept', async () => {
  const clock = new ManualClock();
  const cache = await openCache(clock);
  const kept = new KeptAnswers(cache, clock);
  kept.keep(OWN, of('long'), answered('x'.repeat(300_000)), clock.now());
  await expect(kept.last(OWN, 'long', HOUR_MS)).resolves.toBeNull();
  for (let n = 0; n < 100; n++) kept.keep(OWN, of(String(n)), answered('x'.repeat(200_000)), clock.now());
  expect(kept.fresh(OWN, '0', HOUR_MS)).toBeNull();
  expect(kept.fresh(OWN, '99', HOUR_MS)).not.toBeNull();
});

test('a cache directory that does not work costs nothing but what a restart would have found', async () => {
  const clock = new ManualClock();
  const cache = await openCache(clock);
  await cache.close();
  const kept = new KeptAnswers(cache, clock);
  kept.keep(OWN, of('a'), answered('1'), clock.now());
  await expect(kept.last(OWN, 'a', HOUR_MS)).resolves.toMatchObject({ text: '1' });
});
