import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import type { Fault, RouteClass } from '../support/scripted-mlflow.ts';
import { startSidecar } from '../support/sidecar.ts';
import { stageOf, statusOf, WARM } from './breaker-stage.ts';
import { modelFiles, reload, wrongFiles } from './harness.ts';

const REFUSED: Fault = { kind: 'refused' };
const DOWN: Fault = { kind: 'status', status: 503, body: 'down for maintenance' };
/** What differs little from the others. */
const MORE: readonly [RouteClass, string, Fault][] =
  process.env['CHAOS'] === undefined
    ? []
    : [
        ['registry', 'answers 503', DOWN],
        ['listing', 'refuses', REFUSED],
        ['file', 'answers 503', DOWN],
      ];
const COLD = 'models:/cold/Production';
const FILES = modelFiles('cold-1');

/** Most of it is waiting. */
describe.concurrent('an outage in the middle of a first load', () => {
  test.each<[RouteClass, string, Fault]>([
    ['registry', 'refuses', REFUSED],
    ['listing', 'answers 503', DOWN],
    ['file', 'refuses', REFUSED],
    ...MORE,
  ])('at the %s, which %s: the call waits, and loads the model', async (routeClass, _, fault) => {
    const ends: (() => Promise<void>)[] = [];
    try {
      // It opens at the second failure, and would not be asked for a minute.
      const { upstream, url } = await stageOf({ SIDECAR_BREAKER_FAILURES: '2' }, end => void ends.push(end));
      upstream.addVersion({ name: 'cold', stage: 'Production', files: FILES });
      await upstream.setFault(routeClass, fault);
      const loading = reload(url, COLD, { deadline_s: 120 });
      await delay(6_000);
      await upstream.clearFaults();
      const { outcome } = await loading;
      expect(outcome).toMatchObject({ status: 'loaded', version: '1', warning: null });
      expect(await wrongFiles(outcome.path, FILES)).toEqual([]);
    } finally {
      for (const end of ends.toReversed()) await end();
    }
  });

  test('that does not end: the deadline is told with the last reason, and a server that has come back is asked by the run', async ({
    onTestFinished: atEnd,
  }) => {
    const { upstream, url } = await stageOf({ SIDECAR_BREAKER_FAILURES: '1' }, atEnd);
    upstream.addVersion({ name: 'cold', stage: 'Production', files: FILES });
    await upstream.setFault('registry', REFUSED);
    const { outcome, ms } = await reload(url, COLD, { deadline_s: 3 });
    expect(outcome).toMatchObject({
      status: 'failed',
      refreshing: true,
      warning: { code: 'deadline_exceeded', message: expect.stringContaining('connection refused') },
    });
    expect(ms).toBeGreaterThan(2_900);
    expect((await reload(url, WARM)).outcome).toMatchObject({ status: 'stale', version: '1' });
    await upstream.clearFaults();
    // The run of the first call goes on.
    expect((await reload(url, COLD, { deadline_s: 120 })).outcome).toMatchObject({ version: '1' });
    expect((await statusOf(url)).breaker).toBe('closed');
  });

  test('after a restart: what the cache holds shows that there is a server', async ({
    onTestFinished: atEnd,
  }) => {
    const stage = await stageOf({}, atEnd);
    const env = { ...stage.upstream.env, SIDECAR_CACHE_DIR: stage.sidecar.cacheDir };
    await stage.upstream.setFault('registry', REFUSED);
    const again = await startSidecar(env);
    atEnd(async () => void (await again.stop()));
    stage.upstream.addVersion({ name: 'cold', stage: 'Production', files: FILES });
    const loading = reload(again.url, COLD, { deadline_s: 120 });
    await delay(1_500);
    await stage.upstream.clearFaults();
    expect((await loading).outcome).toMatchObject({ status: 'loaded', version: '1' });
  });

  test('an address where nobody ever answered is told when the tries are used up', async ({
    onTestFinished: atEnd,
  }) => {
    const sidecar = await startSidecar({
      MLFLOW_TRACKING_URI: 'http://127.0.0.1:9',
      MLFLOW_REGISTRY_URI: 'http://127.0.0.1:9',
    });
    atEnd(async () => void (await sidecar.stop()));
    const { outcome } = await reload(sidecar.url, COLD, { deadline_s: 120 });
    expect(outcome).toMatchObject({
      status: 'failed',
      refreshing: false,
      attempts: 3,
      warning: { code: 'mlflow_unreachable', hint: expect.stringContaining('MLFLOW_TRACKING_URI') },
    });
  });

  test('1,000 callers wait for one model each: MLflow is asked by one at a time while it is down', async ({
    onTestFinished: atEnd,
  }) => {
    const { upstream, url } = await stageOf({ SIDECAR_BREAKER_RESET_S: '2' }, atEnd);
    await upstream.setFault('registry', DOWN);
    const model_uris = (from: number) =>
      Array.from({ length: 100 }, (_, n) => `models:/storm-${from + n}/Production`);
    const hundred = async (from: number) => {
      const body = JSON.stringify({ model_uris: model_uris(from), deadline_s: 60 });
      const headers = { 'content-type': 'application/json' };
      return await (await fetch(`${url}/v1/reload`, { method: 'POST', headers, body })).text();
    };
    const before = upstream.requests.length;
    const calls = Array.from({ length: 10 }, (_, n) => hundred(n * 100));
    await delay(10_000);
    const seen = upstream.requests.length - before;
    console.log(`1,000 waiting callers, 10 s of 503: ${seen} requests`);
    // Those on their way when it opened, a trial each 2 s, and the health each 5 s.
    expect(seen).toBeLessThan(32 + 10);
    await upstream.clearFaults();
    for (const text of await Promise.all(calls)) expect(text).toContain('"missing"');
  });
});
