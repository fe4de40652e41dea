import { expect, onTestFinished, test } from 'vitest';
import { fetchAll } from '../../src/artifacts/fetch.ts';
import { MlflowArtifacts } from '../../src/artifacts/mlflow-artifacts.ts';
import { EventBus } from '../../src/domain/events.ts';
import { Breaker } from '../../src/policy/breaker.ts';
import { ManualClock } from '../reload/support.ts';
import { type Fault, ScriptedMlflow } from '../support/scripted-mlflow.ts';
import { call, clientFor } from '../upstream/support.ts';
import { fetchOptions, listedFiles } from './support.ts';

const FILES = { MLmodel: 'flavors: {}\n', a: 'first', b: 'second' };
/** The second try would come after 2 s; what a single failure does is seen without it. */
const ONE = { failures: 1, resetMs: 60_000 };

async function artifacts(fault: Fault | null, limits = ONE) {
  const upstream = await ScriptedMlflow.start();
  onTestFinished(() => upstream.close());
  const { root } = upstream.addVersion({ name: 'churn', files: FILES });
  if (fault !== null)
    await Promise.all([upstream.setFault('file', fault), upstream.setFault('listing', fault)]);
  const clock = new ManualClock();
  const breaker = new Breaker({ who: 'It', limits, clock, onChange: () => undefined });
  onTestFinished(() => breaker.dispose());
  const client = await clientFor({ trusted: [] });
  const endpoint = `${upstream.artifactsUrl}/api/2.0/mlflow-artifacts/artifacts`;
  const source = new MlflowArtifacts(client, new EventBus(), endpoint, root.split('/'), breaker);
  const fetchModel = (path = 'MLmodel') => fetchAll(listedFiles(source, [path]), fetchOptions(), call());
  return { upstream, source, breaker, clock, fetchModel };
}

test.each<[string, Fault, string]>([
  ['answers 503', { kind: 'status', status: 503 }, 'mlflow_error'],
  ['resets', { kind: 'reset' }, 'mlflow_unreachable'],
  ['breaks a body off', { kind: 'cut', contentLength: true }, 'artifact_corrupt'],
])(
  'a file whose server %s is a failure, and is not tried again by a breaker that opens',
  async (_, fault, code) => {
    const { upstream, breaker, fetchModel } = await artifacts(fault);
    await expect(fetchModel()).rejects.toMatchObject({ code });
    expect(breaker.state).toBe('open');
    expect(upstream.requests).toHaveLength(1);
    await expect(fetchModel()).rejects.toMatchObject({ code: 'circuit_open' });
    expect(upstream.requests).toHaveLength(1);
  },
);

test('a listing whose server answers 503 is a failure', async () => {
  const { upstream, source, breaker } = await artifacts({ kind: 'status', status: 503 });
  await expect(source.list('', call())).rejects.toMatchObject({ code: 'mlflow_error' });
  expect(breaker.state).toBe('open');
  expect(upstream.requests).toHaveLength(1);
});

test.each<[string, Fault | null, string, string]>([
  ['is not there', null, 'nothing', 'artifact_missing'],
  ['leads elsewhere', { kind: 'redirect', origin: 'http://127.0.0.1:1' }, 'MLmodel', 'unsafe_path'],
  ['is refused', { kind: 'status', status: 403 }, 'MLmodel', 'access_denied'],
])('a file that %s says nothing about the server', async (_, fault, path, code) => {
  const { breaker, fetchModel } = await artifacts(fault);
  await expect(fetchModel(path)).rejects.toMatchObject({ code });
  expect(breaker).toMatchObject({ state: 'closed', failures: 0 });
});

test('after its time one file is the trial: only once its body is whole is the breaker closed', async () => {
  const { upstream, breaker, clock, fetchModel } = await artifacts({ kind: 'cut', contentLength: true });
  await expect(fetchModel()).rejects.toThrow();
  clock.advance(60_000);
  expect(breaker.state).toBe('half-open');
  await expect(fetchModel()).rejects.toMatchObject({ code: 'artifact_corrupt' });
  expect(breaker).toMatchObject({ state: 'open', failures: 2 });
  clock.advance(60_000);
  await upstream.clearFaults();
  await expect(fetchModel()).resolves.toMatchObject([{ path: 'MLmodel' }]);
  expect(breaker.state).toBe('closed');
});

test('the progress floor is one failure, however many files it ends', async () => {
  const { source, breaker } = await artifacts({ kind: 'stall' }, { failures: 5, resetMs: 60_000 });
  const fetching = fetchAll(
    listedFiles(source, Object.keys(FILES)),
    fetchOptions({ floor: { bytesPerSecond: 1_000, windowS: 1 } }),
    call(),
  );
  await expect(fetching).rejects.toMatchObject({ code: 'artifact_timeout' });
  expect(breaker).toMatchObject({ state: 'closed', failures: 1 });
});

test('while one file is the trial the others of its run wait for it', async () => {
  const { upstream, source, breaker, clock, fetchModel } = await artifacts({ kind: 'status', status: 503 });
  await expect(fetchModel()).rejects.toThrow();
  await upstream.clearFaults();
  clock.advance(60_000);
  const before = upstream.requests.length;
  const done = await fetchAll(listedFiles(source, Object.keys(FILES)), fetchOptions(), call());
  expect(done.map(({ path }) => path).toSorted()).toEqual(['MLmodel', 'a', 'b']);
  expect(upstream.requests.length - before).toBe(3);
  expect(breaker.state).toBe('closed');
});

test('files that wait for a trial that fails are refused, and nobody is asked for them', async () => {
  const { upstream, source, breaker, clock, fetchModel } = await artifacts({ kind: 'status', status: 503 });
  await expect(fetchModel()).rejects.toThrow();
  clock.advance(60_000);
  const before = upstream.requests.length;
  const failing = fetchAll(listedFiles(source, Object.keys(FILES)), fetchOptions(), call());
  await expect(failing).rejects.toMatchObject({ code: 'mlflow_error' });
  expect(upstream.requests.length - before).toBe(1);
  expect(breaker.state).toBe('open');
});
