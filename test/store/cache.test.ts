import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, onTestFinished, test, vi } from 'vitest';
import { systemClock } from '../../src/domain/clock.ts';
import { EventBus, type SidecarEvent } from '../../src/domain/events.ts';
import { Cache } from '../../src/store/cache.ts';
import { SOON } from '../support/limits.ts';
import { OWN, temporaryDirectory } from './support.ts';

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
});

afterEach(() => {
  vi.useRealTimers();
});

function cacheAt(dir: string) {
  const events = new EventBus();
  const told: SidecarEvent[] = [];
  events.subscribe(event => told.push(event));
  const cache = new Cache({ dir, own: OWN, clock: systemClock, events });
  onTestFinished(async () => void (await cache.close()));
  return { cache, told };
}

test('a directory that works is open, and has no problem', async () => {
  const dir = await temporaryDirectory();
  const { cache, told } = cacheAt(dir);
  expect(cache.problem).toBe('The cache directory is not open yet.');
  expect(() => cache.store()).toThrow('not open yet');
  await cache.open();
  expect(cache.problem).toBeNull();
  expect(cache.store()).toBe(cache.opened);
  expect(told.map(event => event.type)).toEqual(['cache_recovered']);
});

test('one that does not work says why, throws nothing, and is open once it works', async () => {
  const dir = join(await temporaryDirectory(), 'cache');
  await writeFile(dir, 'a file in the way');
  const { cache, told } = cacheAt(dir);
  await cache.open();
  expect(cache.opened).toBeNull();
  expect(cache.problem).toMatch(/^The cache directory .*cache does not work: /);
  expect(() => cache.store()).toThrow('does not work');
  await rm(dir);
  await mkdir(dir);
  await vi.advanceTimersByTimeAsync(5_000);
  await vi.waitFor(() => expect(cache.problem).toBeNull(), SOON);
  expect(told.map(event => event.type)).toEqual(['cache_unusable', 'cache_recovered']);
});

test('one that never works is tried every 5 s, is told of once, and is not tried any more once it is closed', async () => {
  const dir = join(await temporaryDirectory(), 'cache');
  await writeFile(dir, 'a file in the way');
  const { cache, told } = cacheAt(dir);
  await cache.open();
  await vi.advanceTimersByTimeAsync(5_000);
  await vi.waitFor(() => expect(vi.getTimerCount()).toBe(1), SOON);
  expect(told).toHaveLength(1);
  await cache.close();
  expect(vi.getTimerCount()).toBe(0);
});

test('one that is closed leaves no work in progress behind', async () => {
  const dir = await temporaryDirectory();
  const { cache } = cacheAt(dir);
  await cache.open();
  await cache.close();
  expect(await readdir(join(dir, 'v1/tmp'))).toEqual([]);
});
