import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { systemClock } from '../../src/domain/clock.ts';
import { parseModelUri } from '../../src/domain/model-uri.ts';
import { Scheduler } from '../../src/prewarm/scheduler.ts';
import { DAY, FakeTime, HOUR, MINUTE, noted, SECOND } from './support.ts';

const MIDNIGHT = Date.UTC(2026, 10, 26);
const START = MIDNIGHT + SECOND / 2;
/** How late what is due may be noticed where a clock was set. */
const LOOK_MS = SECOND + 1;

describe('a day of schedules', () => {
  test('every time of every schedule has its run, and there is no other', () => {
    const time = new FakeTime(START);
    const shares = [0, 0.37, 1];
    const { runs } = noted(
      time,
      { 'models:/a/1': '*/5 * * * *', 'models:/b/1': '7 * * * *', 'models:/c/1': '30 6,18 * * *' },
      () => shares.shift() ?? 0,
    );
    time.pass(DAY);
    const at = (uri: string) => runs.filter(run => run.uri === uri).map(run => run.at);
    const every = (period: number, first: number) =>
      Array.from({ length: DAY / period }, (_, i) => MIDNIGHT + first + i * period);
    expect(at('models:/a/1')).toEqual(every(5 * MINUTE, 4.5 * MINUTE));
    expect(at('models:/b/1')).toEqual(every(HOUR, 7 * MINUTE + 0.37 * MINUTE));
    expect(at('models:/c/1').map(ms => new Date(ms).toISOString())).toEqual([
      '2026-11-26T06:31:00.000Z',
      '2026-11-26T18:31:00.000Z',
    ]);
  });

  test('a time zone’s day is its own', () => {
    const time = new FakeTime(START);
    const due: string[] = [];
    const uri = parseModelUri('models:/a/1');
    const scheduler = new Scheduler({
      schedules: [{ uri, cron: '0 6 * * *' }],
      timezone: 'Asia/Kolkata',
      clock: time,
      random: () => 0,
      onDue: () => due.push(new Date(time.now()).toISOString()),
    });
    scheduler.start();
    expect(scheduler.nextRuns().get(uri)).toBe(Date.UTC(2026, 10, 26, 0, 30));
    time.pass(DAY);
    expect(due).toEqual(['2026-11-26T00:30:00.000Z']);
  });

  test('nothing is due any more after the end', () => {
    const time = new FakeTime(START);
    const { runs, scheduler } = noted(time, { 'models:/a/1': '* * * * *' });
    time.pass(5 * MINUTE);
    scheduler.stop();
    time.pass(HOUR);
    expect(runs).toHaveLength(5);
  });
});

describe('a clock that is set', () => {
  const CRONS: readonly [string, number][] = [
    ['*/5 * * * *', 5 * MINUTE],
    ['*/10 * * * * *', 10 * SECOND],
    ['0 * * * *', HOUR],
  ];
  const JUMPS = [HOUR, -HOUR, DAY, -DAY, 90 * SECOND, -90 * SECOND];

  test('leaves no gap longer than a period, and makes no burst', () => {
    const cases = fc.record({
      schedule: fc.constantFrom(...CRONS),
      share: fc.double({ min: 0, max: 1, noNaN: true }),
      jumps: fc.array(fc.record({ after: fc.nat(HOUR), by: fc.constantFrom(...JUMPS) }), {
        minLength: 1,
        maxLength: 3,
      }),
    });
    fc.assert(
      fc.property(cases, ({ schedule: [cron, period], share, jumps }) => {
        const time = new FakeTime(START);
        const { runs, scheduler } = noted(time, { 'models:/a/1': cron }, () => share);
        const started = time.monotonic();
        for (const { after, by } of jumps) {
          time.pass(after);
          time.set(by);
        }
        time.pass(3 * period);
        scheduler.stop();
        const moments = [...runs.map(run => run.monotonic), time.monotonic()];
        const gaps = moments.slice(1).map((moment, i) => moment - (moments[i] ?? moment));
        expect((moments[0] ?? Number.NaN) - started).toBeLessThanOrEqual(period + LOOK_MS);
        expect(Math.max(0, ...gaps)).toBeLessThanOrEqual(period + LOOK_MS);
        const most = (time.monotonic() - started) / period + 1 + jumps.length * 2;
        expect(runs.length).toBeLessThanOrEqual(most);
      }),
      {
        numRuns: 60,
        examples: [
          [{ schedule: ['*/5 * * * *', 5 * MINUTE], share: 0.541675, jumps: [{ after: 0, by: HOUR }] }],
          [
            {
              schedule: ['0 * * * *', HOUR],
              share: 1,
              jumps: [{ after: 30 * MINUTE + SECOND, by: 90 * MINUTE + SECOND }],
            },
          ],
        ],
      },
    );
  });

  test('by many small steps back: none is so small that it is not seen at last', () => {
    const time = new FakeTime(START);
    const { runs } = noted(time, { 'models:/a/1': '0 * * * *' }, () => 0);
    for (let i = 0; i < 2_000; i++) {
      time.pass(2 * SECOND);
      time.set(-0.9 * SECOND);
    }
    expect(runs[0]?.monotonic).toBeLessThanOrEqual(START + HOUR + 2 * LOOK_MS);
  });

  test('by a day ahead: a daily model is loaded once, and then at its time', () => {
    const time = new FakeTime(START);
    const { runs } = noted(time, { 'models:/a/1': '0 6 * * *' }, () => 0);
    time.pass(HOUR);
    time.set(DAY);
    time.pass(6 * HOUR);
    const set = MIDNIGHT + DAY + HOUR;
    expect(runs).toHaveLength(2);
    expect(runs[0]?.at).toBeGreaterThanOrEqual(set);
    expect(runs[0]?.at).toBeLessThanOrEqual(set + 2 * LOOK_MS);
    expect(runs[1]?.at).toBe(MIDNIGHT + DAY + 6 * HOUR);
  });

  test('by an hour back: a daily model does not wait for 25 hours', () => {
    const time = new FakeTime(START);
    const { runs } = noted(time, { 'models:/a/1': '0 6 * * *' }, () => 0);
    time.pass(7 * HOUR);
    time.set(-HOUR + 30 * MINUTE);
    time.pass(DAY);
    expect(runs).toHaveLength(3);
    const [first, second] = runs.map(({ monotonic }) => monotonic);
    expect((second ?? 0) - (first ?? 0)).toBeLessThanOrEqual(DAY + LOOK_MS);
  });
});

describe('a time zone with summer time', () => {
  const gapsOf = (cron: string, timezone: string, start: number, ms: number) => {
    const time = new FakeTime(start);
    const { runs, scheduler } = noted(time, { 'models:/a/1': cron }, () => 0, timezone);
    time.pass(ms);
    scheduler.stop();
    return runs.slice(1).map(({ at }, i) => at - (runs[i]?.at ?? 0));
  };
  const NIGHTS: readonly [string, number][] = [
    ['Europe/Berlin', Date.UTC(2026, 9, 24, 22)],
    ['Europe/Berlin', Date.UTC(2026, 2, 28, 22)],
    ['America/New_York', Date.UTC(2026, 10, 1, 3)],
    ['Australia/Lord_Howe', Date.UTC(2026, 3, 4, 12)],
  ];

  test.each(NIGHTS)(
    '%s: what runs every five minutes or hours of the day does so in the night of the change',
    (zone, start) => {
      expect(new Set(gapsOf('*/5 * * * *', zone, start, 6 * HOUR))).toEqual(new Set([5 * MINUTE]));
      const hours = gapsOf('0 * * * *', zone, start, 6 * HOUR);
      expect(hours.length).toBeGreaterThanOrEqual(4);
      expect(Math.max(...hours)).toBeLessThanOrEqual(HOUR);
    },
  );

  test('an hour of the day is that of the clock on the wall, before and after', () => {
    const time = new FakeTime(Date.UTC(2026, 9, 24, 0));
    const { runs, scheduler } = noted(time, { 'models:/a/1': '0 6 * * *' }, () => 0, 'Europe/Berlin');
    time.pass(2 * DAY);
    scheduler.stop();
    expect(runs.map(({ at }) => new Date(at).toISOString())).toEqual([
      '2026-10-24T04:00:00.000Z',
      '2026-10-25T05:00:00.000Z',
    ]);
  });
});

test('a hundred sidecars do not ask in one moment', () => {
  const time = new FakeTime(START);
  const sidecars = 100;
  const uris = Array.from({ length: 50 }, (_, i) => `models:/m${i}/1`);
  const perSecond = new Map<number, number>();
  let calls = 0;
  for (let i = 0; i < sidecars; i++) {
    const scheduler = new Scheduler({
      schedules: uris.map(uri => ({ uri: parseModelUri(uri), cron: '*/5 * * * *' })),
      timezone: 'UTC',
      clock: time,
      onDue: () => {
        calls++;
        const second = Math.floor(time.now() / SECOND);
        perSecond.set(second, (perSecond.get(second) ?? 0) + 1);
      },
    });
    scheduler.start();
  }
  time.pass(2.5 * MINUTE);
  calls = 0;
  perSecond.clear();
  time.pass(5 * MINUTE);
  expect(calls).toBe(sidecars * uris.length);
  const busiest = Math.max(...perSecond.values()) / calls;
  console.log(`busiest second: ${(busiest * 100).toFixed(2)} % of a period’s calls`);
  expect(busiest).toBeLessThanOrEqual(0.03);
});

test('with real time, a model that is due every second is due every second', async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  const due: number[] = [];
  const scheduler = new Scheduler({
    schedules: [{ uri: parseModelUri('models:/a/1'), cron: '* * * * * *' }],
    timezone: 'UTC',
    clock: systemClock,
    random: () => 0.5,
    onDue: () => {
      due.push(Date.now());
      if (due.length === 4) resolve();
    },
  });
  scheduler.start();
  await promise;
  scheduler.stop();
  const seconds = due.map(at => Math.floor(at / SECOND));
  expect(seconds).toEqual([0, 1, 2, 3].map(i => (seconds[0] ?? 0) + i));
});
