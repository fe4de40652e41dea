import { afterAll, beforeAll, expect, test } from 'vitest';
import { GRACE_MS, modelFiles, reload, wrongFiles } from './harness.ts';
import {
  dismantle,
  LONG_DEADLINE_S,
  type Measured,
  measure,
  prepare,
  printTimes,
  SHORT_DEADLINE_S,
  type Stage,
  type Trouble,
} from './matrix.ts';

const NOWHERE = 'http://127.0.0.1:9';

const TROUBLES: readonly Trouble[] = [
  {
    name: 'files that are refused',
    routeClass: 'file',
    fault: { kind: 'refused' },
    code: 'mlflow_unreachable',
  },
  { name: 'files that never come', routeClass: 'file', fault: { kind: 'silent' }, code: null },
  { name: 'files that are reset', routeClass: 'file', fault: { kind: 'reset' }, code: 'mlflow_unreachable' },
  {
    name: 'headers of files at a byte a second',
    routeClass: 'file',
    fault: { kind: 'trickle', part: 'headers' },
    code: null,
  },
  {
    name: 'files at a byte a second',
    routeClass: 'file',
    fault: { kind: 'trickle', part: 'body' },
    code: null,
  },
  {
    name: 'files that answer 503',
    routeClass: 'file',
    fault: { kind: 'status', status: 503 },
    code: 'mlflow_error',
  },
  {
    name: 'files that are an HTML page',
    routeClass: 'file',
    fault: { kind: 'html' },
    code: 'artifact_corrupt',
  },
  { name: 'files that stall', routeClass: 'file', fault: { kind: 'stall' }, code: null },
  {
    name: 'files cut short, with Content-Length',
    routeClass: 'file',
    fault: { kind: 'cut', contentLength: true },
    code: 'artifact_corrupt',
  },
  {
    name: 'files cut short, without Content-Length',
    routeClass: 'file',
    fault: { kind: 'cut', contentLength: false },
    code: 'artifact_corrupt',
  },
  {
    name: 'files longer than listed',
    routeClass: 'file',
    fault: { kind: 'longer' },
    code: 'artifact_corrupt',
  },
  {
    name: 'files redirected to another origin',
    routeClass: 'file',
    fault: { kind: 'redirect', origin: NOWHERE },
    code: 'unsafe_path',
  },
  {
    name: 'files that are gone',
    routeClass: 'file',
    fault: { kind: 'status', status: 404 },
    code: 'artifact_missing',
  },
  { name: 'a listing that never comes', routeClass: 'listing', fault: { kind: 'silent' }, code: null },
  {
    name: 'a listing that answers 503',
    routeClass: 'listing',
    fault: { kind: 'status', status: 503 },
    code: 'mlflow_error',
  },
  {
    name: 'a listing that is an HTML page',
    routeClass: 'listing',
    fault: { kind: 'html' },
    code: 'mlflow_error',
  },
  {
    name: 'a listing cut short, without Content-Length',
    routeClass: 'listing',
    fault: { kind: 'cut', contentLength: false },
    code: 'mlflow_error',
  },
];

/** Longer than the default refresh_wait_s would be if it counted; a newer version is waited for until this. */
const WARM_DEADLINE_S = 1.5;

const stages = new Map<Trouble, Stage>();
let measured: ReadonlyMap<string, Measured> = new Map();

function of(trouble: Trouble): Measured {
  const found = measured.get(trouble.name);
  if (found === undefined) throw new Error(`nothing was measured of ${trouble.name}`);
  return found;
}

beforeAll(async () => {
  await Promise.all(TROUBLES.map(async trouble => stages.set(trouble, await prepare(trouble.env))));
  measured = await measure(stages, () => ({ deadline_s: WARM_DEADLINE_S, refresh_wait_s: 0.5 }));
}, 90_000);

afterAll(async () => {
  await Promise.all([...stages.values()].map(dismantle));
  printTimes('A newer version with …', measured);
});

test.each(TROUBLES)(
  'warm, a newer version with $name: the last good one within the deadline',
  async trouble => {
    const { warm, warmAgain } = of(trouble);
    for (const { outcome, ms } of [warm, warmAgain]) {
      expect(outcome).toMatchObject({ status: 'stale', version: '1', wanted_version: '2', changed: false });
      expect(ms).toBeLessThan(WARM_DEADLINE_S * 1_000 + GRACE_MS);
      expect([trouble.code, 'deadline_exceeded']).toContain(outcome.warning?.code);
      expect(outcome.refreshing).toBe(outcome.warning?.code === 'deadline_exceeded');
      expect(await wrongFiles(outcome.path, modelFiles('warm-1'))).toEqual([]);
    }
  },
);

test.each(TROUBLES)('cold, $name: failed within the deadline', trouble => {
  const { cold } = of(trouble);
  expect(cold.outcome).toMatchObject({ status: 'failed', name: 'cold', path: null });
  expect([trouble.code, 'deadline_exceeded']).toContain(cold.outcome.warning?.code);
  expect(cold.outcome.refreshing).toBe(cold.outcome.warning?.code === 'deadline_exceeded');
  expect(cold.ms).toBeLessThan(SHORT_DEADLINE_S * 1_000 + GRACE_MS);
});

test.each(TROUBLES.filter(({ code }) => code !== null))('cold, $name: $code in the end', trouble => {
  const { coldAtLast } = of(trouble);
  expect(coldAtLast?.outcome).toMatchObject({ status: 'failed', path: null, refreshing: false });
  expect(coldAtLast?.outcome.warning?.code).toBe(trouble.code);
  expect(coldAtLast?.ms).toBeLessThan(LONG_DEADLINE_S * 1_000 + GRACE_MS);
});

test.each(TROUBLES)('$name: once that is over, both are loaded whole', async trouble => {
  const stage = stages.get(trouble);
  if (stage === undefined) throw new Error('no sidecar was started');
  await stage.upstream.clearFaults();
  for (const [name, label] of [
    ['warm', 'warm-2'],
    ['cold', 'cold-1'],
  ]) {
    const { outcome } = await reload(stage.sidecar.url, `models:/${name}/Production`, {
      force: true,
      deadline_s: 10,
    });
    expect(outcome.status).toMatch(/loaded|unchanged/);
    expect(await wrongFiles(outcome.path, modelFiles(label ?? ''))).toEqual([]);
  }
});
