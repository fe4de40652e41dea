import { afterAll, beforeAll, expect, test } from 'vitest';
import { GRACE_MS, modelFiles, reload, until, wrongFiles } from './harness.ts';
import {
  dismantle,
  type Measured,
  measure,
  prepare,
  printTimes,
  SHORT_DEADLINE_S,
  type Stage,
  type Trouble,
} from './matrix.ts';

const REFRESH_WAIT_S = 0.5;
const DEFAULT_REFRESH_WAIT_S = 2;
/** Of three tries: uniform(2, 4) and uniform(2, 8). */
const RETRY_WAITS_S = { least: 4, most: 12 };
/** So that three tries that each time out end within this suite's patience. */
const SHORT_TRY = { MLFLOW_HTTP_REQUEST_TIMEOUT: '1' };

const TROUBLES: readonly Trouble[] = [
  { name: 'refuses', routeClass: 'registry', fault: { kind: 'refused' }, code: 'mlflow_unreachable' },
  {
    name: 'accepts and is silent',
    routeClass: 'registry',
    fault: { kind: 'silent' },
    code: 'mlflow_timeout',
    env: SHORT_TRY,
  },
  {
    name: 'accepts and is silent, all defaults',
    routeClass: 'registry',
    fault: { kind: 'silent' },
    code: null,
  },
  { name: 'resets', routeClass: 'registry', fault: { kind: 'reset' }, code: 'mlflow_unreachable' },
  {
    name: 'sends headers at a byte a second',
    routeClass: 'registry',
    fault: { kind: 'trickle', part: 'headers' },
    code: 'mlflow_timeout',
    env: SHORT_TRY,
  },
  {
    name: 'sends a body at a byte a second',
    routeClass: 'registry',
    fault: { kind: 'trickle', part: 'body' },
    code: 'mlflow_timeout',
    env: SHORT_TRY,
  },
  {
    name: 'answers 503',
    routeClass: 'registry',
    fault: { kind: 'status', status: 503, body: 'down for maintenance' },
    code: 'mlflow_error',
  },
  {
    name: 'answers 429',
    routeClass: 'registry',
    fault: { kind: 'status', status: 429 },
    code: 'mlflow_error',
  },
  {
    name: 'answers 500',
    routeClass: 'registry',
    fault: { kind: 'status', status: 500 },
    code: 'mlflow_error',
  },
  {
    name: 'answers an HTML page with 200',
    routeClass: 'registry',
    fault: { kind: 'html' },
    code: 'mlflow_error',
  },
  {
    name: 'answers half a JSON',
    routeClass: 'registry',
    fault: { kind: 'broken_json' },
    code: 'mlflow_error',
  },
  {
    name: 'stalls within the body',
    routeClass: 'registry',
    fault: { kind: 'stall' },
    code: 'mlflow_timeout',
    env: SHORT_TRY,
  },
  {
    name: 'cuts the body short, with Content-Length',
    routeClass: 'registry',
    fault: { kind: 'cut', contentLength: true },
    code: 'mlflow_unreachable',
  },
  {
    name: 'cuts the body short, without Content-Length',
    routeClass: 'registry',
    fault: { kind: 'cut', contentLength: false },
    code: 'mlflow_error',
  },
];

const stages = new Map<Trouble, Stage>();
let measured: ReadonlyMap<string, Measured> = new Map();

function waitS(trouble: Trouble): number {
  return trouble.env === undefined && trouble.code === null ? DEFAULT_REFRESH_WAIT_S : REFRESH_WAIT_S;
}

function of(trouble: Trouble): Measured {
  const found = measured.get(trouble.name);
  if (found === undefined) throw new Error(`nothing was measured of a registry that ${trouble.name}`);
  return found;
}

beforeAll(async () => {
  await Promise.all(TROUBLES.map(async trouble => stages.set(trouble, await prepare(trouble.env))));
  measured = await measure(stages, trouble =>
    waitS(trouble) === DEFAULT_REFRESH_WAIT_S ? {} : { refresh_wait_s: REFRESH_WAIT_S },
  );
}, 90_000);

afterAll(async () => {
  await Promise.all([...stages.values()].map(dismantle));
  printTimes('A registry that …', measured);
});

test.each(TROUBLES)('warm, a registry that $name: the last good one within refresh_wait_s', async trouble => {
  const { warm } = of(trouble);
  expect(warm.outcome).toMatchObject({
    status: 'stale',
    name: 'warm',
    version: '1',
    wanted_version: null,
    changed: false,
  });
  expect(warm.outcome.source).toBe('cache');
  expect(warm.outcome.warning?.code).toMatch(trouble.code ?? 'mlflow_timeout');
  expect(warm.ms).toBeLessThan(waitS(trouble) * 1_000 + GRACE_MS);
  expect(await wrongFiles(warm.outcome.path, modelFiles('warm-1'))).toEqual([]);
});

test.each(TROUBLES)('warm, a registry that $name: the second call has it within 50 ms', trouble => {
  const { warm, warmAgain } = of(trouble);
  expect(warmAgain.outcome).toMatchObject({ status: 'stale', version: '1', path: warm.outcome.path });
  expect(warmAgain.ms).toBeLessThan(50);
});

test.each(TROUBLES)(
  'cold, a registry that $name: deadline_exceeded at the deadline, and the run goes on',
  trouble => {
    const { cold } = of(trouble);
    expect(cold.outcome).toMatchObject({ status: 'failed', path: null, version: null, refreshing: true });
    expect(cold.outcome.warning?.code).toBe('deadline_exceeded');
    expect(cold.ms).toBeGreaterThan(SHORT_DEADLINE_S * 1_000 - 50);
    expect(cold.ms).toBeLessThan(SHORT_DEADLINE_S * 1_000 + GRACE_MS);
  },
);

test.each(TROUBLES.filter(({ code }) => code !== null))(
  'cold, a registry that $name: $code once the tries are used up',
  trouble => {
    const { coldAtLast } = of(trouble);
    expect(coldAtLast?.outcome).toMatchObject({
      status: 'failed',
      path: null,
      refreshing: false,
      attempts: 3,
    });
    expect(coldAtLast?.outcome.warning?.code).toBe(trouble.code);
    expect(coldAtLast?.outcome.warning?.message).not.toBe('');
    const triesS = trouble.env === SHORT_TRY ? 3 : 0;
    expect(coldAtLast?.ms).toBeGreaterThan((triesS + RETRY_WAITS_S.least) * 1_000 - 50);
    expect(coldAtLast?.ms).toBeLessThan((triesS + RETRY_WAITS_S.most) * 1_000 + GRACE_MS);
  },
);

test('a registry that comes back is asked again, and its new version given', async () => {
  const [stage] = stages.values();
  if (stage === undefined) throw new Error('no sidecar was started');
  await stage.upstream.clearFaults();
  stage.upstream.addVersion({ name: 'warm', stage: 'Production', files: modelFiles('warm-2') });
  const found = await until(12_000, async () => {
    const { outcome } = await reload(stage.sidecar.url, 'models:/warm/Production');
    return outcome.version === '2' ? outcome : null;
  });
  expect(await wrongFiles(found.path, modelFiles('warm-2'))).toEqual([]);
});
