import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, expect, onTestFinished, test } from 'vitest';
import { z } from 'zod';
import { OutcomeSchema } from '../../src/domain/outcome.ts';
import { makeCache, removeCache } from '../crash/harness.ts';
import { ScriptedMlflow } from '../support/scripted-mlflow.ts';
import { type RunningSidecar, startSidecar } from '../support/sidecar.ts';
import { modelFiles, reload, until, wrongFiles } from './harness.ts';

let upstream: ScriptedMlflow;

beforeAll(async () => {
  upstream = await ScriptedMlflow.start();
});

afterEach(() => upstream.clearFaults());
afterAll(() => upstream.close());

const Job = z.object({
  job_id: z.string(),
  done: z.boolean(),
  status: z.string(),
  status_url: z.string(),
  result_url: z.string(),
  outcome: OutcomeSchema.nullable(),
});

async function begin({ url }: RunningSidecar, name: string, fields: object = {}) {
  const response = await fetch(`${url}/v1/reload`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model_uri: `models:/${name}/Production`, mode: 'async', ...fields }),
  });
  expect(response.status).toBe(202);
  return Job.parse(await response.json());
}

async function look({ url }: RunningSidecar, { status_url: path }: z.infer<typeof Job>, waitS = 0) {
  const response = await fetch(`${url}${path}?wait_s=${waitS}`);
  expect(response.status).toBe(200);
  return Job.parse(await response.json());
}

async function remove({ url }: RunningSidecar, { status_url: path }: z.infer<typeof Job>): Promise<number> {
  return (await fetch(url + path, { method: 'DELETE' })).status;
}

/** A model in production whose files begin to come and never end. */
async function stalledModel(name: string) {
  const made = upstream.addVersion({ name, stage: 'Production', files: modelFiles(name) });
  await upstream.setFault('file', { kind: 'stall' }, { when: ({ path }) => path.startsWith(made.root) });
  const asked = () =>
    upstream.requests.filter(({ route, path }) => route === 'file' && path.startsWith(made.root));
  return { ...made, asked };
}

async function started(env: Readonly<Record<string, string>> = {}): Promise<RunningSidecar> {
  const sidecar = await startSidecar({ ...upstream.env, SIDECAR_LOG_LEVEL: 'debug', ...env });
  onTestFinished(async () => void (await sidecar.stop()));
  return sidecar;
}

const metric = async ({ url }: RunningSidecar, line: string) =>
  (await (await fetch(`${url}/metrics`)).text()).split('\n').includes(line);

test('the same reload posted three times, a second apart, is one download, and goes on without its client', async () => {
  const sidecar = await started();
  const made = upstream.addVersion({ name: 'thrice', stage: 'Production', files: modelFiles('thrice') });
  const { promise: released, resolve: release } = Promise.withResolvers<void>();
  await upstream.setFault('file', { kind: 'after', act: () => released });
  const jobs = [await begin(sidecar, 'thrice', { force: true })];
  for (const _ of [2, 3]) {
    await delay(1_000);
    jobs.push(await begin(sidecar, 'thrice', { force: true }));
  }
  await fetch(`${sidecar.url}${jobs[0]?.status_url}?wait_s=9`, { signal: AbortSignal.timeout(100) }).catch(
    () => null,
  );
  release();
  for (const job of jobs) {
    const { outcome } = await look(sidecar, job, 30);
    expect(outcome).toMatchObject({ status: 'loaded', version: '1', job_id: job.job_id });
    expect(await wrongFiles(outcome?.path ?? null, modelFiles('thrice'))).toEqual([]);
  }
  const times = [...upstream.counts('file')].filter(([path]) => path.startsWith(made.root)).map(([, n]) => n);
  expect(times).toEqual([1, 1, 1]);
});

test('a job that is removed ends its download, once no other job wants it, and is no failure of the server’s', async () => {
  const sidecar = await started();
  const model = await stalledModel('unwanted');
  const jobs = [await begin(sidecar, 'unwanted'), await begin(sidecar, 'unwanted')];
  await until(5_000, async () => (model.asked().length === 3 ? true : null));
  const [one, two] = jobs;
  if (one === undefined || two === undefined) throw new Error('There are two.');
  const open = upstream.connections;
  expect(await remove(sidecar, one)).toBe(204);
  await delay(300);
  expect(upstream.connections).toBe(open);
  expect(await remove(sidecar, two)).toBe(204);
  await until(5_000, async () => ((await metric(sidecar, 'mlflow_sidecar_runs_in_flight 0')) ? true : null));
  await until(5_000, async () => (upstream.connections <= open - 3 ? true : null));
  expect(await metric(sidecar, 'mlflow_sidecar_runs_total{status="stopped",code=""} 2')).toBe(true);
  expect(sidecar.logs()).not.toContain('"event":"run_failed"');
  await upstream.clearFaults();
  expect((await reload(sidecar.url, 'models:/unwanted/Production')).outcome.status).toBe('loaded');
});

test('a job that is removed takes nothing from a caller that waits for the same', async () => {
  const sidecar = await started();
  await stalledModel('shared');
  const caller = reload(sidecar.url, 'models:/shared/Production', { deadline_s: 3 });
  const job = await begin(sidecar, 'shared');
  await delay(500);
  expect(await remove(sidecar, job)).toBe(204);
  const { outcome } = await caller;
  expect(outcome).toMatchObject({
    status: 'failed',
    refreshing: true,
    warning: { code: 'deadline_exceeded' },
  });
  await upstream.clearFaults();
});

test('a job that is removed before its question was asked leaves the next one alone', async () => {
  const sidecar = await started();
  upstream.addVersion({ name: 'queued', stage: 'Production', files: modelFiles('queued') });
  await upstream.setFault('registry', { kind: 'delay', ms: 500 });
  const first = await begin(sidecar, 'queued');
  const second = await begin(sidecar, 'queued');
  expect(await remove(sidecar, second)).toBe(204);
  const third = await begin(sidecar, 'queued');
  expect((await look(sidecar, first, 30)).status).toBe('loaded');
  expect(['loaded', 'unchanged']).toContain((await look(sidecar, third, 30)).status);
});

test('kill -9 in the middle: the next process ends it, with the model, in the log with the caller’s names', async () => {
  const cacheDir = await makeCache();
  onTestFinished(() => removeCache(cacheDir));
  const before = await started({ SIDECAR_CACHE_DIR: cacheDir });
  const model = await stalledModel('killed');
  const job = await begin(before, 'killed');
  await until(5_000, async () => (model.asked().length === 3 ? true : null));
  process.kill(before.pid, 'SIGKILL');
  await before.exited;
  await upstream.clearFaults();
  const after = await started({ SIDECAR_CACHE_DIR: cacheDir });
  const first = await look(after, job);
  expect(['pending', 'loaded']).toContain(first.status);
  const { outcome } = await look(after, job, 30);
  expect(outcome).toMatchObject({ status: 'loaded', version: '1', job_id: job.job_id });
  expect(await wrongFiles(outcome?.path ?? null, modelFiles('killed'))).toEqual([]);
  const line = (words: RegExp) =>
    after
      .logs()
      .split('\n')
      .find(each => each.includes(job.job_id) && words.test(each)) ?? null;
  expect(line(/"event":"job_begun".*"resumed":true/)).not.toBeNull();
  // It is written once the answer is out.
  await until(5_000, async () => line(/"event":"reload_finished"/));
});

test('SIGTERM answers whoever waits, and the next process ends the job with a clear failure where MLflow is gone', async () => {
  const cacheDir = await makeCache();
  onTestFinished(() => removeCache(cacheDir));
  const before = await started({ SIDECAR_CACHE_DIR: cacheDir });
  const model = await stalledModel('termed');
  const job = await begin(before, 'termed', { deadline_s: 8 });
  const waiting = look(before, job, 60);
  await until(5_000, async () => (model.asked().length === 3 ? true : null));
  process.kill(before.pid, 'SIGTERM');
  expect(await waiting).toMatchObject({ done: false, status: 'pending' });
  expect(await before.exited).toBe(0);
  await upstream.setFault('registry', { kind: 'refused' });
  const after = await started({ SIDECAR_CACHE_DIR: cacheDir });
  const { outcome } = await look(after, job, 30);
  expect(outcome).toMatchObject({ status: 'failed', path: null });
  expect(['mlflow_unreachable', 'deadline_exceeded']).toContain(outcome?.warning?.code);
});
