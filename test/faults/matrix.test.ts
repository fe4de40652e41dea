import { monitorEventLoopDelay } from 'node:perf_hooks';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Outcome } from '../../src/domain/outcome.ts';
import { atMost, IS_STRICT } from '../support/limits.ts';
import { type Certificates, makeCertificates } from '../support/scripted/certificates.ts';
import { GRACE_MS } from './harness.ts';
import {
  COLD_DEADLINE_S,
  DEFAULT_REFRESH_WAIT_S,
  IS_LONG,
  LAST_DEADLINE_S,
  type Measured,
  measureAll,
  REFRESH_WAIT_S,
  SQUARES,
  WARM_DEADLINE_S,
} from './matrix-measure.ts';
import { printMatrix } from './matrix-print.ts';
import { type Cell, isOutage } from './matrix-table.ts';

/** As the HTTP interface promises them to whoever wants failures as errors. */
const HTTP_STATUS: Readonly<Record<string, number>> = {
  mlflow_unreachable: 503,
  mlflow_error: 502,
  mlflow_timeout: 504,
  artifact_timeout: 504,
  artifact_missing: 502,
  artifact_corrupt: 502,
  unsafe_path: 502,
};

/** How long a look at the disk is waited for, of which a call needs two. */
const DISK_WAIT_MS = 200;

let certificates: Certificates;
let measured: readonly Measured[] = [];

/** How late this process itself was: what a machine without time for its tests does to every limit. */
const lateness = monitorEventLoopDelay();

beforeAll(async () => {
  certificates = await makeCertificates();
  lateness.enable();
  measured = await measureAll(certificates);
}, 600_000);

afterAll(async () => {
  await certificates.remove();
  printMatrix(measured, lateness.percentile(99.9) / 1_000_000);
});

function of({ name, routeClass }: Cell): Measured {
  const found = measured.find(({ cell }) => cell.name === name && cell.routeClass === routeClass);
  if (found === undefined) throw new Error(`nothing was measured of "${name}" at the ${routeClass}`);
  return found;
}

/** Whether a first try has failed before callers give up. */
function failsAtOnce({ end }: Cell): boolean {
  return end.tryS === 0;
}

/** Whether it is over by then, since it is not tried again. */
function isSettled({ end }: Cell): boolean {
  return end.tries === 1 && end.tryS === 0;
}

/** Of a call that its deadline ends, unless the trouble is settled before. On a busy machine either may be first. */
function expectEnd({ warning, refreshing }: Outcome, cell: Cell): void {
  const code = isSettled(cell) ? cell.end.code : 'deadline_exceeded';
  expect(IS_STRICT ? [code] : ['deadline_exceeded', cell.end.code]).toContain(warning?.code);
  const isLate = warning?.code === 'deadline_exceeded';
  expect(refreshing).toBe(isLate);
  if (failsAtOnce(cell) && isLate) expect(warning?.message).toContain('Last failure');
}

describe.each(SQUARES.registry.filter(({ evil }) => evil.kind !== 'disk'))('the registry: $name', cell => {
  test('warm: the last good version within refresh_wait_s, the second time at once', () => {
    const { warm, warmAgain, warmWrong } = of(cell);
    const waitS = cell.isByDefault ? DEFAULT_REFRESH_WAIT_S : REFRESH_WAIT_S;
    expect(warm.outcome).toMatchObject({
      status: 'stale',
      name: 'warm',
      version: '1',
      wanted_version: null,
      changed: false,
      source: 'cache',
    });
    expect(warm.outcome.warning?.code).toBe(failsAtOnce(cell) ? cell.end.code : 'mlflow_timeout');
    expect(warm.ms).toBeLessThan(atMost(waitS * 1_000 + GRACE_MS));
    expect(warmWrong).toEqual([]);
    expect(warmAgain.outcome).toMatchObject({ status: 'stale', version: '1', path: warm.outcome.path });
    expect(warmAgain.ms).toBeLessThan(atMost(50));
  });
});

describe.each([...SQUARES.listing, ...SQUARES.file])('a newer version’s $routeClass: $name', cell => {
  test('warm: the last good version within the deadline', () => {
    const { warm, warmAgain, warmWrong, isRemembered } = of(cell);
    for (const { outcome, ms } of [warm, warmAgain]) {
      expect(ms).toBeLessThan(atMost(WARM_DEADLINE_S * 1_000 + GRACE_MS));
      // A busy machine may come to the deadline before the name that it remembers is of use.
      if (isRemembered && (IS_STRICT || outcome.status !== 'stale')) {
        expect(outcome).toMatchObject({ version: '2', wanted_version: null, warning: null });
        continue;
      }
      expect(outcome).toMatchObject({ status: 'stale', version: '1', wanted_version: '2', changed: false });
      expectEnd(outcome, cell);
      expect(outcome.path).toBe(warm.outcome.path);
    }
    expect(warmWrong).toEqual([]);
  });
});

const EVERYWHERE = [...SQUARES.registry, ...SQUARES.listing, ...SQUARES.file];

describe.each(EVERYWHERE)('$routeClass: $name', cell => {
  test('cold: failed within the deadline', () => {
    const { outcome, ms } = of(cell).cold;
    if (of(cell).isRemembered && (IS_STRICT || outcome.path !== null))
      return expect(outcome).toMatchObject({ status: 'loaded', version: '1' });
    expect(outcome).toMatchObject({ status: 'failed', name: 'cold', path: null, version: null });
    expectEnd(outcome, cell);
    const isEnded = outcome.warning?.code !== 'deadline_exceeded';
    expect(ms).toBeGreaterThan(isEnded ? 0 : COLD_DEADLINE_S * 1_000 - 50);
    expect(ms).toBeLessThan(atMost(COLD_DEADLINE_S * 1_000 + GRACE_MS));
  });

  test('1 s after the last run’s end nothing is left open', () => {
    expect(of(cell).leaks).toEqual([]);
  });

  test('once that is over, both models are loaded whole', () => {
    expect(of(cell).unrecovered).toEqual([]);
  });
});

describe.each(EVERYWHERE.filter(isWaitedFor))('$routeClass: $name is $end.code', cell => {
  test('cold: that code when the tries are used up, and an outage is waited out', () => {
    const { last, isRemembered } = of(cell);
    if (isRemembered) return expect(last).toBeNull();
    if (last === 'loaded') return expect(isOutage(cell)).toBe(true);
    if (isOutage(cell)) {
      expect(last).toMatchObject({ code: 'deadline_exceeded', refreshing: true, http: 504 });
      expect(last?.detail).toContain('Last failure');
      if (cell.routeClass === 'registry') expect(last?.attempts).toBeGreaterThanOrEqual(cell.end.tries);
      expect(last?.ms).toBeGreaterThan(LAST_DEADLINE_S * 1_000 - 50);
      expect(last?.ms).toBeLessThan(atMost(LAST_DEADLINE_S * 1_000 + GRACE_MS));
      return;
    }
    const { code, tries, tryS, waitS } = cell.end;
    expect(last).toMatchObject({ code, refreshing: false, http: HTTP_STATUS[code] });
    if (cell.routeClass === 'registry') expect(last?.attempts).toBe(tries);
    const [least, most] = waitS;
    // A lookup that another call began ends sooner.
    const leastTryS = cell.evil.kind === 'dns' ? 0 : tryS;
    expect(last?.ms).toBeGreaterThan((least + tries * leastTryS) * 1_000 - 50);
    expect(last?.ms).toBeLessThan(atMost((most + tries * tryS) * 1_000 + slackMs(cell)));
  });
});

/** What takes two minutes only in the long form; a disk that hangs for ever not at all. */
function isWaitedFor({ evil, end }: Cell): boolean {
  return end.endless !== true || (IS_LONG && evil.kind !== 'disk');
}

/** No deadline bounds it: timeouts are looked after once a second, and other processes run. */
function slackMs({ end: { tries, tryS } }: Cell): number {
  return 5_000 + (tryS > 1 ? tries * 1_500 : 0);
}

test('the registry with a hung file system: warm is unchanged all the same', () => {
  const [cell] = SQUARES.registry.filter(({ evil }) => evil.kind === 'disk');
  if (cell === undefined) throw new Error('no such cell');
  const { warm, warmAgain, warmWrong } = of(cell);
  for (const { outcome, ms } of [warm, warmAgain]) {
    expect(outcome).toMatchObject({ status: 'unchanged', version: '1' });
    expect(ms).toBeLessThan(atMost(2 * DISK_WAIT_MS + GRACE_MS));
  }
  expect(warmWrong).toEqual([]);
});
