import { once } from 'node:events';
import { createServer } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, type TestContext, test } from 'vitest';
import { z } from 'zod';
import { OutcomeSchema } from '../../src/domain/outcome.ts';
import { makeCache, removeCache } from '../crash/harness.ts';
import { until } from '../faults/harness.ts';
import { Airflow } from '../support/airflow.ts';
import { reloadsOf, warnings } from '../support/airflow-log.ts';
import { type Relay, startRelay } from '../support/airflow-relay.ts';
import { parseExposition } from '../support/exposition.ts';
import { freePort } from '../support/free-port.ts';
import { atMost } from '../support/limits.ts';
import { whileFrozen } from '../support/real-mlflow.ts';
import { reload } from '../support/reload.ts';
import { ScriptedMlflow } from '../support/scripted-mlflow.ts';
import { type RunningSidecar, startSidecar } from '../support/sidecar.ts';
import { servers } from './servers.ts';

/** All of them wait for one another. */
const LIMIT_MS = 400_000;
const VARIANTS = fileURLToPath(new URL('../support/airflow-dags', import.meta.url));
const VARIANT_URI = 'models:/variants/Production';
const TOKEN = 'token/of+the=tests';
const AS_JSON = { type: 'application/json', body: `{"model_uri": "${VARIANT_URI}", "deadline_s": 20}` };
const AS_FORM = {
  type: 'application/x-www-form-urlencoded',
  body: 'model_uri=models%3A%2Fvariants%2FProduction&deadline_s=20',
};
const EMPTY_FORM = { ...AS_FORM, body: '' };
const BASIC = `Basic ${Buffer.from(`airflow:${TOKEN}`).toString('base64')}`;
const BEARER = `Bearer ${TOKEN}`;
/** What each task of airflow-dags/http_variants.py sends. */
const SENT: Readonly<Record<string, Sent>> = {
  sync_form: AS_FORM,
  sync_json: AS_JSON,
  sync_untyped_json: { ...AS_JSON, type: undefined },
  sync_empty: { ...EMPTY_FORM, type: undefined },
  sync_request_kwargs: AS_JSON,
  sync_login: { ...AS_FORM, authorization: BASIC },
  sync_bearer: { ...AS_FORM, authorization: BEARER },
  deferrable_form: AS_FORM,
  deferrable_json: AS_JSON,
  deferrable_untyped_json: { ...AS_JSON, type: 'text/plain; charset=utf-8' },
  deferrable_empty: EMPTY_FORM,
  // The operator drops it.
  deferrable_request_kwargs: EMPTY_FORM,
  deferrable_login: { ...AS_FORM, authorization: BASIC },
  deferrable_bearer: { ...AS_FORM, authorization: BEARER },
};
interface Sent {
  readonly type: string | undefined;
  readonly body: string;
  readonly authorization?: string;
}

const OK = { exitCode: 0, state: 'success' };

const mlflow = servers.find(server => server.version === '3.17.2');
let airflow: Airflow;

beforeAll(async () => {
  airflow = await Airflow.start('3.3.2');
}, LIMIT_MS);

afterAll(() => airflow.stop());

interface Stand {
  readonly upstream: ScriptedMlflow;
  readonly sidecar: RunningSidecar;
  readonly relay: Relay;
}

/** A scripted MLflow, a sidecar, and between it and Airflow somebody who keeps an account. */
async function stand(context: TestContext, env: Readonly<Record<string, string>> = {}): Promise<Stand> {
  const upstream = await ScriptedMlflow.start();
  context.onTestFinished(() => upstream.close());
  const sidecar = await startSidecar({ ...upstream.env, ...env });
  context.onTestFinished(async () => void (await sidecar.stop()));
  const relay = await startRelay(sidecar.url);
  context.onTestFinished(() => relay.close());
  return { upstream, sidecar, relay };
}

describe.concurrent('on Airflow 3.3.2', { timeout: LIMIT_MS }, () => {
  test('ml_model_training with MLflow frozen: under 30 s, one warning a model, and the run succeeds', async context => {
    const { url = '', pid = 0 } = mlflow ?? {};
    const sidecar = await startSidecar({ MLFLOW_TRACKING_URI: url });
    context.onTestFinished(async () => void (await sidecar.stop()));
    const warm = 'models:/topic-classification/Production';
    expect((await reload(sidecar.url, warm)).outcome.status).toBe('loaded');
    const cold = 'models:/sentiment-analysis/Production';
    const { log, ...run } = await whileFrozen(pid, () =>
      airflow.run('ml_model_training', {
        conf: { model_uris: [warm, cold] },
        env: { AIRFLOW_CONN_MODEL_SIDECAR: sidecar.url },
        skip: 'train|promote',
        waits: true,
      }),
    );
    expect(run).toMatchObject({ ...OK, states: { reload_models: ['success'] } });
    expect(warnings(log)).toEqual([
      expect.stringContaining('⚠️ Serving the last good version: '),
      expect.stringContaining('⚠️ Failed to reload sentiment-analysis: '),
    ]);
    const seconds = secondsOfOnlyTask(log);
    expect(seconds).toBeGreaterThan(2);
    expect(seconds * 1_000).toBeLessThan(atMost(30_000));
  });

  test('a sensor on a job that is pending, then failed, sees 404s, then one 200, and the last task fails', async context => {
    const { upstream, relay } = await stand(context);
    upstream.addVersion({ name: 'stalled', stage: 'Production', files: { MLmodel: 'flavors: {}\n' } });
    await upstream.setFault('file', { kind: 'stall' });
    const run = await airflow.run('reload_async_sensor', {
      conf: { model_uri: 'models:/stalled/Production', deadline_s: 8 },
      env: { AIRFLOW_CONN_MODEL_SIDECAR: relay.url },
      waits: true,
    });
    const pokes = relay.of('wait_for_reload');
    const statuses = pokes.map(({ status }) => status);
    expect(statuses).toEqual([...statuses.slice(1).map(() => 404), 200]);
    expect(statuses.length).toBeGreaterThanOrEqual(3);
    const gaps = pokes.slice(1).map(({ beganAt }, index) => beganAt - (pokes[index]?.beganAt ?? beganAt));
    expect(Math.min(...gaps)).toBeGreaterThan(1_000);
    const warning = expect.objectContaining({ code: 'deadline_exceeded' });
    expect(run).toMatchObject({
      exitCode: 1,
      state: 'failed',
      states: { wait_for_reload: ['success'], check: ['failed'] },
      returned: { wait_for_reload: [expect.objectContaining({ status: 'failed', path: null, warning })] },
    });
    expect(run.log).toContain('RuntimeError: deadline_exceeded: ');
  });

  test('ml_model_training with a sidecar that sends a byte a second: one warning, and the run succeeds', async context => {
    const trickle = createServer((_, res) => {
      const timer = setInterval(() => res.write(' '), 1_000);
      res.once('close', () => clearInterval(timer));
    });
    context.onTestFinished(() => {
      trickle.close();
      trickle.closeAllConnections();
    });
    trickle.listen(0, '127.0.0.1');
    await once(trickle, 'listening');
    const { port } = z.object({ port: z.number() }).parse(trickle.address());
    const { log, ...run } = await airflow.run('ml_model_training', {
      env: { AIRFLOW_CONN_MODEL_SIDECAR: `http://127.0.0.1:${port}` },
      skip: 'train|promote',
      waits: true,
    });
    expect(run).toMatchObject({ ...OK, states: { reload_models: ['success'] } });
    expect(warnings(log)).toEqual([expect.stringContaining('⚠️ The model sidecar did not answer: ')]);
  });

  test('a sidecar that is restarted in the middle of a job costs neither a sensor nor a long poll its end', async context => {
    const cacheDir = await makeCache();
    context.onTestFinished(() => removeCache(cacheDir));
    const env = { SIDECAR_CACHE_DIR: cacheDir, SIDECAR_PORT: String(await freePort()) };
    const { upstream, sidecar, relay } = await stand(context, env);
    for (const name of ['poked', 'polled'])
      upstream.addVersion({ name, stage: 'Production', files: { MLmodel: 'flavors: {}\n' } });
    await upstream.setFault('file', { kind: 'stall' });
    const run = (dagId: string, name: string) =>
      airflow.run(dagId, {
        conf: { model_uri: `models:/${name}/Production` },
        env: { AIRFLOW_CONN_MODEL_SIDECAR: relay.url },
        waits: true,
      });
    const runs = Promise.all([run('reload_async_sensor', 'poked'), run('reload_deferrable', 'polled')]);
    await until(120_000, async () => (upstream.counts('file').size === 2 ? true : null));
    // The long poll is under way as soon as it was asked for; the sensor has been told to wait.
    await until(60_000, async () => (relay.begun('wait_for_reload') >= 2 ? true : null));
    await sidecar.stop();
    await upstream.clearFaults();
    // Longer than a sensor waits between two looks.
    await delay(3_000);
    const again = await startSidecar({ ...upstream.env, ...env });
    context.onTestFinished(async () => void (await again.stop()));
    for (const ended of await runs) expect(ended).toMatchObject({ ...OK, returned: { check: ['1'] } });
  });

  test('a deferrable long poll of a job of 20 s ends within 1 s of it, and costs one request besides its begin', async context => {
    const { upstream, relay } = await stand(context);
    upstream.addVersion({ name: 'slow', stage: 'Production', files: { MLmodel: 'flavors: {}\n' } });
    await upstream.setFault('file', { kind: 'delay', ms: 20_000 });
    const run = await airflow.run('reload_deferrable', {
      conf: { model_uri: 'models:/slow/Production' },
      env: { AIRFLOW_CONN_MODEL_SIDECAR: relay.url },
      waits: true,
    });
    expect(run).toMatchObject({ ...OK, returned: { check: ['1'] } });
    const [begin, ...begun] = relay.of('begin_reload');
    const [poll, ...polled] = relay.of('wait_for_reload');
    expect([begin?.status, poll?.status, poll?.url.split('?')[1], begun, polled]).toEqual([
      202,
      200,
      'wait_s=240',
      [],
      [],
    ]);
    const [job] = z.array(z.object({ outcome: OutcomeSchema })).parse(run.returned['wait_for_reload']);
    const jobS = job?.outcome.duration_s ?? 0;
    expect(jobS).toBeGreaterThanOrEqual(20);
    const late = (poll?.endedAt ?? 0) - (begin?.beganAt ?? 0) - jobS * 1_000;
    expect(late).toBeLessThan(atMost(1_000));
  });

  test('whatever an HTTP connection and its operators send is understood, and whose call it was is logged', async context => {
    const env = { SIDECAR_MODELS: VARIANT_URI };
    const [open, guarded] = await Promise.all([
      stand(context, env),
      stand(context, { ...env, SIDECAR_TOKEN: TOKEN }),
    ]);
    for (const { upstream } of [open, guarded]) {
      upstream.addVersion({ name: 'variants', stage: 'Production', files: { MLmodel: 'flavors: {}\n' } });
    }
    const run = await airflow.run('http_variants', {
      env: {
        AIRFLOW__CORE__DAGS_FOLDER: VARIANTS,
        AIRFLOW_CONN_PLAIN: open.relay.url,
        AIRFLOW_CONN_LOGIN: guarded.relay.url.replace('//', `//airflow:${encodeURIComponent(TOKEN)}@`),
        AIRFLOW_CONN_BEARER: JSON.stringify({
          conn_type: 'http',
          host: guarded.relay.url,
          extra: { Authorization: `Bearer ${TOKEN}` },
        }),
      },
    });
    expect(run).toMatchObject(OK);
    for (const [taskId, { authorization, ...sent }] of Object.entries(SENT)) {
      const { relay, sidecar } = authorization === undefined ? open : guarded;
      const exchanges = relay.of(taskId).map(({ status, headers, body }) => {
        return { status, type: headers['content-type'], body, authorization: headers.authorization };
      });
      expect([taskId, ...exchanges]).toEqual([taskId, { status: 200, authorization, ...sent }]);
      expect(reloadsOf(taskId, sidecar.logs())).toMatchObject([
        {
          model_uri: VARIANT_URI,
          dag_id: 'http_variants',
          dag_run_id: expect.stringMatching(/./),
          try_number: '1',
          map_index: '-1',
        },
      ]);
    }
  });
});

/** Alone, since it takes both cores for half a minute. */
test('fifty mapped tasks at once cost one download a model', { timeout: LIMIT_MS }, async context => {
  const { upstream, sidecar } = await stand(context);
  const names = ['a', 'b', 'c', 'd', 'e'];
  for (const name of names) {
    upstream.addVersion({
      name,
      stage: 'Production',
      files: { MLmodel: `name: ${name}\n`, 'model.bin': name },
    });
  }
  // No file comes before all fifty wait for theirs.
  const allAsk = Promise.withResolvers<void>();
  await upstream.setFault('file', { kind: 'after', act: () => allAsk.promise });
  const running = airflow.run('reload_mapped', {
    conf: {
      model_uris: Array.from({ length: 50 }, (_, index) => `models:/${names[index % 5]}/Production`),
    },
    env: { SIDECAR_URL: sidecar.url, SIDECAR_CACHE_DIR: sidecar.cacheDir },
    parallelism: 50,
  });
  await Promise.race([running, waiting(sidecar, 50)]);
  allAsk.resolve();
  const run = await running;
  expect(run).toMatchObject({ ...OK, states: { load: Array(50).fill('success') } });
  expect(upstream.counts('file').size).toBe(10);
  expect([...upstream.counts('file').values()]).toEqual(Array(10).fill(1));
});

/** Resolves when so many calls wait for their answers. */
async function waiting({ url }: RunningSidecar, calls: number): Promise<void> {
  for (;;) {
    const families = parseExposition(await (await fetch(`${url}/metrics`)).text());
    if (families.get('mlflow_sidecar_calls_waiting')?.series[0]?.value === calls) return;
    await delay(100);
  }
}

/** What the task itself took, without Airflow's start: from the mark before `execute` to the one after it. */
function secondsOfOnlyTask(log: string): number {
  const [beganAt, endedAt] = ['::endgroup::', 'Done. Returned value was'].map(mark => {
    const line = log.split('\n').find(each => each.includes(mark));
    return Date.parse(line?.split(' ')[0] ?? '');
  });
  return ((endedAt ?? Number.NaN) - (beganAt ?? Number.NaN)) / 1_000;
}
