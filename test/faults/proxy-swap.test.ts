import { setTimeout as delay } from 'node:timers/promises';
import { expect, onTestFinished, test } from 'vitest';
import { account } from '../crash/account.ts';
import { givenSeed, makeCache, removeCache, seeded } from '../crash/harness.ts';
import { SIZES } from '../crash/sizes.ts';
import { freePort } from '../support/free-port.ts';
import { atMost, IS_STRICT } from '../support/limits.ts';
import { type LoadedModel, loadModel } from '../support/mlflow-load.ts';
import { ScriptedMlflow } from '../support/scripted-mlflow.ts';
import { type RunningSidecar, startSidecar } from '../support/sidecar.ts';
import { modelFiles, reload, until } from './harness.ts';
import {
  BY_ALIAS,
  BY_STAGE,
  filesOf,
  loadUntil,
  nothingSeen,
  type Seen,
  SwappedModel,
} from './proxy-swap.ts';

const CLIENTS = 8;
/** From one swap to the next at most, with two cores for all of it. */
const SWAP_MS = 120;
/** Of what MLflow answers so many break off. */
const FILES_CUT = 0.04;
const QUESTIONS_CUT = 0.003;
/** A client that breaks off does so in this time, which is more than most loads take. */
const CUT_MS = 250;
/** So many swaps later a version is deleted and made again; what is cached is fetched again. */
const REMADE_EVERY = 25;
const FORCED_EVERY = 15;
/** Of the swaps, by which the sidecar is killed. */
const KILLED_AT = [0.35, 0.7];
/** On a machine that is busy, swaps go on until the clients have seen enough, at most so many times as many. */
const MOST_TIMES = 10;
/** So long a registry that was slow is asked in the background only. */
const SLOW_MS = 12_000;
/** MLflow's client tries these again, seven times. */
const TRIED_AGAIN = [408, 429, 500, 502, 503, 504];
const FIRST_MORE_MS = 3_000;
const NEXT_MORE_MS = 200;

async function startMlflow(): Promise<ScriptedMlflow> {
  const upstream = await ScriptedMlflow.start();
  onTestFinished(() => upstream.close());
  return upstream;
}

/** Started again and again on one cache and one address. */
async function restartable(upstream: ScriptedMlflow, more: Readonly<Record<string, string>> = {}) {
  const cacheDir = await makeCache();
  const env = {
    ...upstream.env,
    SIDECAR_CACHE_DIR: cacheDir,
    SIDECAR_PORT: String(await freePort()),
    ...more,
  };
  let running: RunningSidecar | null = null;
  onTestFinished(async () => {
    await running?.stop();
    await removeCache(cacheDir);
  });
  return {
    async start(): Promise<string> {
      running = await startSidecar(env);
      return running.url;
    },
    async kill(): Promise<void> {
      if (running === null) return;
      process.kill(running.pid, 'SIGKILL');
      await running.exited;
    },
  };
}

async function breakOffAtRandom(upstream: ScriptedMlflow, random: () => number): Promise<void> {
  for (const [routeClass, share] of [
    ['registry', QUESTIONS_CUT],
    ['listing', QUESTIONS_CUT],
    ['file', FILES_CUT],
  ] as const) {
    for (const contentLength of [true, false]) {
      const when = () => random() < share / 2;
      await upstream.setFault(routeClass, { kind: 'cut', contentLength }, { when });
    }
  }
}

function sum(seen: readonly Seen[], of: (one: Seen) => number): number {
  return seen.reduce((total, one) => total + of(one), 0);
}

/** Else it would show nothing. */
function showsEnough(seen: readonly Seen[]): boolean {
  return (
    seen.every(one => one.loads > SIZES.swaps / 50) &&
    sum(seen, one => one.changes) > SIZES.swaps / 8 &&
    sum(seen, one => one.cuts) > SIZES.swaps / 8
  );
}

function failuresOf(seen: readonly Seen[]): Readonly<Record<string, number>> {
  const statuses = seen.flatMap(({ failures }) => failures.map(({ status }) => String(status)));
  return Object.fromEntries([...new Set(statuses)].map(one => [one, statuses.filter(s => s === one).length]));
}

test('what a load of two versions would be is seen', async () => {
  const upstream = await startMlflow();
  const model = new SwappedModel(upstream);
  const whole = (label: string) =>
    new Map(Object.entries(filesOf(label)).map(([path, content]) => [path, Buffer.from(content)]));
  const [first, second] = [whole('1.1'), whole('2.2')];
  expect(model.faultOf({ version: '1', files: first })).toBeNull();
  expect(model.faultOf({ version: '2', files: first })).toContain('v2 has MLmodel "1.1"');
  const pickle = second.get('model.pkl') ?? Buffer.alloc(0);
  expect(model.faultOf({ version: '1', files: new Map([...first, ['model.pkl', pickle]]) })).toBe(
    'v1 (1.1) has other model.pkl',
  );
  const [large = ''] = [...first.keys()].filter(path => path.endsWith('large.bin'));
  const short = new Map([...first, [large, Buffer.from(first.get(large) ?? '').subarray(1)]]);
  expect(model.faultOf({ version: '1', files: short })).toBe(`v1 (1.1) has other ${large}`);
  expect(model.faultOf({ version: '2', files: new Map([...first, ...second]) })).toContain('only-in-1.txt');
});

test(`${CLIENTS} clients load through ${SIZES.swaps} swaps of two versions, and none gets files of both`, async () => {
  const random = seeded(givenSeed());
  const upstream = await startMlflow();
  const model = new SwappedModel(upstream);
  const sidecar = await restartable(upstream);
  const base = await sidecar.start();
  await breakOffAtRandom(upstream, random);
  const done = new AbortController();
  const seen = Array.from({ length: CLIENTS }, nothingSeen);
  const clients = seen.map((one, n) => {
    const cutAfterMs = () => (n % 4 < 2 && random() < 0.7 ? random() * CUT_MS : null);
    return loadUntil(done.signal, base, n % 2 === 0 ? BY_STAGE : BY_ALIAS, model, cutAfterMs, one);
  });
  const kills = KILLED_AT.map(share => Math.round(SIZES.swaps * share));
  let times = 1;
  for (; times <= SIZES.swaps || (!showsEnough(seen) && times <= MOST_TIMES * SIZES.swaps); times++) {
    const aliasStays = random() < 0.3;
    model.swap(times, aliasStays);
    if (times % REMADE_EVERY === 0 && !aliasStays) model.remake(times);
    if (times % FORCED_EVERY === 0)
      void reload(base, times % 2 === 0 ? BY_STAGE : BY_ALIAS, { force: true, deadline_s: 10 }).catch(
        () => undefined,
      );
    if (kills.includes(times)) {
      await sidecar.kill();
      await sidecar.start();
    }
    await delay(random() * SWAP_MS);
  }
  done.abort();
  await Promise.all(clients);

  const loads = sum(seen, one => one.loads);
  const changes = sum(seen, one => one.changes);
  const cuts = sum(seen, one => one.cuts);
  const failures = failuresOf(seen);
  await account('loads through swaps', { swaps: times - 1, loads, changes, cuts });
  console.log(
    `${times - 1} swaps, ${loads} loads, ${changes} of them of another version than the one before,`,
  );
  console.log(`${cuts} broken off by the client; failed, by their status: ${JSON.stringify(failures)}`);
  expect(seen.flatMap(({ faults }) => faults)).toEqual([]);
  expect(Object.keys(failures).filter(status => TRIED_AGAIN.includes(Number(status)))).toEqual([]);
  expect(showsEnough(seen)).toBe(true);

  await upstream.clearFaults();
  for (const uri of [BY_STAGE, BY_ALIAS]) {
    const last = await until(SLOW_MS, async () => {
      const loaded = await loadModel(base, uri);
      return loaded.version === model.named(uri) ? loaded : null;
    });
    expect(model.faultOf(last)).toBeNull();
  }
}, 600_000);

test('ten clients on one miss make one download', async () => {
  const upstream = await startMlflow();
  upstream.addVersion({ name: 'miss', stage: 'Production', aliases: ['champion'], files: filesOf('1.1') });
  // On a busy machine, too, all of them wait until it is known whose files these are.
  const sidecar = await restartable(upstream, { SIDECAR_REFRESH_WAIT_S: '20' });
  const base = await sidecar.start();
  const uris = ['models:/miss/Production', 'models:/miss@champion', 'models:/miss/1'];
  const loads = await Promise.all(
    Array.from({ length: 10 }, (_, n) => loadModel(base, uris[n % uris.length] ?? '')),
  );
  for (const { files } of loads) expectFiles({ files }, filesOf('1.1'));
  await delay(500);
  const times = [...upstream.counts('file').values()];
  expect(times).toHaveLength(Object.keys(filesOf('1.1')).length);
  // Who asks for a file before it is known whose it is gets it from MLflow: on a busy machine some do.
  expect(Math.max(...times)).toBeLessThanOrEqual(IS_STRICT ? 1 : 9);
});

test('the sidecar restarted while MLflow is down: a model that was loaded before still loads', async () => {
  const upstream = await startMlflow();
  const files = modelFiles('kept');
  upstream.addVersion({ name: 'kept', stage: 'Production', aliases: ['champion'], files });
  const sidecar = await restartable(upstream);
  const base = await sidecar.start();
  const uris = ['models:/kept/Production', 'models:/kept@champion', 'models:/kept/1'];
  for (const uri of uris) expectFiles(await loadModel(base, uri), files);
  const baseMs = await msOf(() => loadModel(base, uris[0] ?? ''));
  // What a client loads is published beside its load.
  await delay(500);
  await sidecar.kill();
  for (const routeClass of ['registry', 'listing'] as const)
    await upstream.setFault(routeClass, { kind: 'refused' });
  await sidecar.start();
  for (const [n, uri] of uris.entries()) {
    const ms = await msOf(async () => expectFiles(await loadModel(base, uri), files));
    expect(ms).toBeLessThan(atMost(baseMs + (n === 0 ? FIRST_MORE_MS : NEXT_MORE_MS)));
  }
});

async function msOf(work: () => Promise<unknown>): Promise<number> {
  const startedAt = performance.now();
  await work();
  return performance.now() - startedAt;
}

function expectFiles({ files }: Pick<LoadedModel, 'files'>, wanted: ReturnType<typeof filesOf>): void {
  expect([...files.keys()].toSorted()).toEqual(Object.keys(wanted).toSorted());
  const wrong = Object.entries(wanted).filter(
    ([path, content]) => files.get(path)?.equals(Buffer.from(content)) !== true,
  );
  expect(wrong.map(([path]) => path)).toEqual([]);
}
