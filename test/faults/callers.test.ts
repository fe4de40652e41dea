import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { atMost } from '../support/limits.ts';
import { type Fault, ScriptedMlflow, type ScriptedVersion } from '../support/scripted-mlflow.ts';
import { type RunningSidecar, startSidecar } from '../support/sidecar.ts';
import { GRACE_MS, modelFiles, reload, until, wrongFiles } from './harness.ts';

let upstream: ScriptedMlflow;
let sidecar: RunningSidecar;

beforeAll(async () => {
  upstream = await ScriptedMlflow.start();
  sidecar = await startSidecar({ ...upstream.env });
});

afterAll(async () => {
  await sidecar.stop();
  await upstream.close();
});

/** A version in production whose files come `ms` late. */
function slowModel(name: string, ms: number): Promise<ScriptedVersion> {
  return modelWith(name, { kind: 'delay', ms });
}

/** A version in production whose files come once they are released; `isAsked` waits until one is asked for. */
async function heldModel(name: string) {
  const { promise: released, resolve: release } = Promise.withResolvers<void>();
  const made = await modelWith(name, { kind: 'after', act: () => released });
  const isAsked = () => until(5_000, async () => (fetches(made).length > 0 ? true : null));
  return { made, isAsked, release };
}

async function modelWith(name: string, fault: Fault): Promise<ScriptedVersion> {
  const made = upstream.addVersion({ name, stage: 'Production', files: modelFiles(`${name}-1`) });
  await upstream.setFault('file', fault, { when: request => request.path.startsWith(made.root) });
  return made;
}

/** How often each file of a version was asked for. */
function fetches(version: ScriptedVersion): readonly number[] {
  return [...upstream.counts('file')]
    .filter(([path]) => path.startsWith(version.root))
    .map(([, times]) => times);
}

test('100 callers at once, cold: one download, the same answer for all', async () => {
  const made = await slowModel('crowd', 300);
  const answers = await Promise.all(
    Array.from({ length: 100 }, () => reload(sidecar.url, 'models:/crowd/Production', { deadline_s: 20 })),
  );
  expect(fetches(made)).toEqual([1, 1, 1]);
  expect(new Set(answers.map(({ outcome }) => outcome.path)).size).toBe(1);
  expect(new Set(answers.map(({ outcome }) => outcome.status))).toEqual(new Set(['loaded']));
  expect(await wrongFiles(answers[0]?.outcome.path ?? null, modelFiles('crowd-1'))).toEqual([]);
});

test('100 callers at once by four URIs of one version: each file is still fetched once', async () => {
  const made = await slowModel('uris', 300);
  upstream.models.setAlias('uris', 'champion', '1');
  const uris = ['models:/uris/Production', 'models:/uris@champion', 'models:/uris/1', 'models:/uris/latest'];
  const answers = await Promise.all(
    Array.from({ length: 100 }, (_, n) =>
      reload(sidecar.url, uris[n % uris.length] ?? '', { deadline_s: 20 }),
    ),
  );
  expect(fetches(made)).toEqual([1, 1, 1]);
  for (const { outcome } of answers) expect(outcome).toMatchObject({ status: 'loaded', version: '1' });
});

test('callers that hang up do not cancel the others', async () => {
  const made = await slowModel('quitters', 1_000);
  const leaving = Array.from({ length: 10 }, async () => {
    const signal = AbortSignal.timeout(300);
    await expect(reload(sidecar.url, 'models:/quitters/Production', {}, { signal })).rejects.toThrow();
  });
  const staying = Array.from({ length: 10 }, () => reload(sidecar.url, 'models:/quitters/Production'));
  await Promise.all(leaving);
  for (const { outcome } of await Promise.all(staying)) expect(outcome.status).toBe('loaded');
  expect(fetches(made)).toEqual([1, 1, 1]);
});

test('a run whose only caller left is joined by the next one', async () => {
  const made = await slowModel('orphan', 1_200);
  const signal = AbortSignal.timeout(300);
  await expect(reload(sidecar.url, 'models:/orphan/Production', {}, { signal })).rejects.toThrow();
  await delay(200);
  const { outcome } = await reload(sidecar.url, 'models:/orphan/Production');
  expect(outcome).toMatchObject({ status: 'loaded', version: '1' });
  expect(fetches(made)).toEqual([1, 1, 1]);
});

test('each caller of one run has its own deadline', async () => {
  const made = await slowModel('deadlines', 1_500);
  const deadlines = [0.3, 0.6, 0.9, 10];
  const answers = await Promise.all(
    deadlines.map(deadline_s => reload(sidecar.url, 'models:/deadlines/Production', { deadline_s })),
  );
  for (const [n, { outcome, ms }] of answers.slice(0, 3).entries()) {
    const deadlineMs = (deadlines[n] ?? 0) * 1_000;
    expect(outcome).toMatchObject({ status: 'failed', path: null, refreshing: true });
    expect(outcome.warning?.code).toBe('deadline_exceeded');
    expect(ms).toBeGreaterThan(deadlineMs - 50);
    expect(ms).toBeLessThan(atMost(deadlineMs + GRACE_MS));
  }
  expect(answers[3]?.outcome.status).toBe('loaded');
  expect(fetches(made)).toEqual([1, 1, 1]);
});

test('a reload after the alias moved gives the new version, while an older reload still downloads', async () => {
  const { made, isAsked, release } = await heldModel('moving');
  upstream.models.setAlias('moving', 'champion', made.version);
  const older = reload(sidecar.url, 'models:/moving@champion');
  await isAsked();
  upstream.addVersion({ name: 'moving', aliases: ['champion'], files: modelFiles('moving-2') });
  const newer = await reload(sidecar.url, 'models:/moving@champion');
  expect(newer.outcome).toMatchObject({ status: 'loaded', version: '2' });
  expect(await wrongFiles(newer.outcome.path, modelFiles('moving-2'))).toEqual([]);
  release();
  const { outcome: late } = await older;
  expect(await wrongFiles(late.path, modelFiles(`moving-${late.version}`))).toEqual([]);
  const after = await reload(sidecar.url, 'models:/moving@champion');
  expect(after.outcome).toMatchObject({ status: 'unchanged', version: '2', path: newer.outcome.path });
  expect(await wrongFiles(after.outcome.ref_path, modelFiles('moving-2'))).toEqual([]);
});

test('a forced reload joins no run that is not forced', async () => {
  const { made, isAsked, release } = await heldModel('forced');
  const plain = reload(sidecar.url, 'models:/forced/Production');
  await isAsked();
  const forced = Array.from({ length: 5 }, () =>
    reload(sidecar.url, 'models:/forced/Production', { force: true }),
  );
  await until(5_000, async () => (Math.max(...fetches(made)) > 1 ? true : null));
  release();
  for (const { outcome } of await Promise.all(forced)) expect(outcome.status).toBe('loaded');
  await plain;
  expect(fetches(made)).toEqual([2, 2, 2]);
});

test('100 callers at once of a registry that is silent: each has its answer within its deadline', async () => {
  await upstream.setFault('registry', { kind: 'silent' });
  const before = upstream.requests.length;
  const uris = ['models:/crowd/Production', 'models:/nobody/Production'];
  const answers = await Promise.all(
    Array.from({ length: 100 }, (_, n) =>
      reload(sidecar.url, uris[n % uris.length] ?? '', { deadline_s: 1, refresh_wait_s: 0.5 }),
    ),
  );
  for (const { outcome, ms } of answers) {
    const [status, limitMs] = outcome.name === 'crowd' ? ['stale', 500] : ['failed', 1_000];
    expect(outcome.status).toBe(status);
    expect(ms).toBeLessThan(atMost(limitMs + GRACE_MS));
  }
  expect(upstream.requests.length - before).toBeLessThanOrEqual(uris.length);
  await upstream.clearFaults();
});

test('no connection to MLflow is left open', async () => {
  const open = await until(10_000, async () => (upstream.connections === 0 ? upstream.connections : null));
  expect(open).toBe(0);
});
