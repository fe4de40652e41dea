import { setTimeout as delay } from 'node:timers/promises';
import { expect, test, vi } from 'vitest';
import { systemClock as clock } from '../../src/domain/clock.ts';
import { EventBus, type SidecarEvent } from '../../src/domain/events.ts';
import { parseModelUri } from '../../src/domain/model-uri.ts';
import type { Outcome } from '../../src/domain/outcome.ts';
import { WarmUp } from '../../src/prewarm/warm-up.ts';
import { Warmer } from '../../src/prewarm/warmer.ts';
import type { ReloadRequest } from '../../src/reload/api.ts';
import { SOON } from '../support/limits.ts';
import { outcome } from '../support/outcome.ts';
import { FakeTime, HOUR, MINUTE, SECOND } from './support.ts';

const URI = parseModelUri('models:/a/Production');

function warmerOf(reload: (request: ReloadRequest) => Promise<Outcome>) {
  const events = new EventBus();
  const seen: SidecarEvent[] = [];
  events.subscribe(event => seen.push(event));
  const warmer = new Warmer({ reloader: { reload }, maxStaleMs: HOUR, clock, events });
  return { warmer, seen };
}

test('a run is kept with its outcome, and told', async () => {
  const requests: ReloadRequest[] = [];
  const { warmer, seen } = warmerOf(async request => {
    requests.push(request);
    return outcome({
      status: 'stale',
      version: '1',
      duration_s: 2,
      warning: { code: 'circuit_open', message: 'm', hint: null },
    });
  });
  expect(warmer.state(URI)).toEqual({ running: false, last_run: null, skipped: 0 });
  const before = Date.now() / 1_000;
  await warmer.warm(URI, 'schedule');
  expect(warmer.state(URI)).toEqual({
    running: false,
    last_run: { at: expect.any(Number), duration_s: 2, status: 'stale', version: '1', code: 'circuit_open' },
    skipped: 0,
  });
  expect(warmer.state(URI).last_run?.at).toBeGreaterThanOrEqual(before);
  expect(requests).toMatchObject([
    { uri: URI, force: false, caller: { authorization: null, prewarm: 'schedule' } },
  ]);
  await vi.waitFor(
    () => expect(seen).toMatchObject([{ type: 'prewarm_finished', reason: 'schedule' }]),
    SOON,
  );
});

test('a time that comes while the run before is not over is left out, and told', async () => {
  const { promise, resolve } = Promise.withResolvers<Outcome>();
  const { warmer, seen } = warmerOf(() => promise);
  const first = warmer.warm(URI, 'schedule');
  const second = warmer.warm(URI, 'schedule');
  const third = warmer.warm(URI, 'warmup');
  expect(warmer.state(URI)).toEqual({ running: true, last_run: null, skipped: 1 });
  resolve(outcome());
  await Promise.all([first, second, third]);
  expect(warmer.state(URI)).toMatchObject({ running: false, last_run: { status: 'loaded' }, skipped: 1 });
  await vi.waitFor(
    () => expect(seen.map(({ type }) => type)).toEqual(['prewarm_skipped', 'prewarm_finished']),
    SOON,
  );
});

test('eight are loaded at once, and one that takes long holds up nobody', async () => {
  const time = new FakeTime(0);
  const begun: string[] = [];
  const { warmer } = warmerOf(async ({ uri }) => {
    begun.push('name' in uri ? uri.name : '');
    return await new Promise<Outcome>(() => undefined);
  });
  for (let i = 0; i < 10; i++) void warmer.warm(parseModelUri(`models:/m${i}/1`), 'schedule');
  const settle = async () => {
    for (let i = 0; i < 50; i++) await Promise.resolve();
  };
  await settle();
  expect(begun).toHaveLength(8);
  time.pass(30 * SECOND);
  await settle();
  expect(begun).toHaveLength(10);
});

test('after the end nothing is begun', async () => {
  let calls = 0;
  const { warmer, seen } = warmerOf(async () => {
    calls++;
    return outcome();
  });
  warmer.stop();
  await warmer.warm(URI, 'schedule');
  await delay(5);
  expect({ calls, seen }).toEqual({ calls: 0, seen: [] });
});

test('a warm-up goes on until everything is there, and says what is not', async () => {
  const time = new FakeTime(0);
  const there = new Set<string>();
  const asked: string[] = [];
  const models = ['a', 'b'].map(name => parseModelUri(`models:/${name}/1`));
  const warmUp = new WarmUp({
    models,
    ms: MINUTE,
    clock: time,
    isThere: uri => 'name' in uri && there.has(uri.name),
    warmer: {
      warm: async uri => {
        asked.push('name' in uri ? uri.name : '');
      },
    },
  });
  const problem = warmUp.problem;
  warmUp.start();
  expect(warmUp.problem).toBe(problem);
  expect(problem).toBe(
    'The warm-up is not over: of 2 models 2 are not loaded yet: models:/a/1, models:/b/1.',
  );
  there.add('a');
  await vi.waitFor(() => expect(asked).toEqual(['a', 'b']), SOON);
  await Promise.resolve();
  time.pass(5 * SECOND);
  await vi.waitFor(() => expect(asked).toEqual(['a', 'b', 'b']), SOON);
  expect(warmUp.problem).toContain('1 are not loaded yet: models:/b/1');
  there.add('b');
  expect(warmUp.problem).toBeNull();
  there.clear();
  expect(warmUp.problem).toBeNull();
  warmUp.stop();
});

test('a warm-up whose time is over holds up nobody', () => {
  const time = new FakeTime(0);
  const warmUp = new WarmUp({
    models: [URI],
    ms: MINUTE,
    clock: time,
    isThere: () => false,
    warmer: { warm: async () => undefined },
  });
  warmUp.start();
  time.pass(59 * SECOND);
  expect(warmUp.problem).not.toBeNull();
  time.pass(SECOND);
  expect(warmUp.problem).toBeNull();
  warmUp.stop();
});
