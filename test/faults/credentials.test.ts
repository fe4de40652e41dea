import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, onTestFinished, test } from 'vitest';
import { atMost } from '../support/limits.ts';
import { type RecordedRequest, ScriptedMlflow } from '../support/scripted-mlflow.ts';
import { startSidecar } from '../support/sidecar.ts';
import { modelFiles, reload, wrongFiles } from './harness.ts';
import { dismantle, prepare, type Stage } from './matrix.ts';

const WARM = 'models:/warm/Production';
const COLD = 'models:/cold/Production';
const OWN = 'own-secret-7f3a';
const CALLERS = 'callers-secret-91bd';

async function stageOf(env: Readonly<Record<string, string>> = {}): Promise<Stage> {
  const stage = await prepare({ MLFLOW_TRACKING_TOKEN: OWN, ...env });
  onTestFinished(() => dismantle(stage));
  return stage;
}

async function otherOrigin(): Promise<ScriptedMlflow> {
  const other = await ScriptedMlflow.start();
  onTestFinished(() => other.close());
  return other;
}

function authorizations(requests: readonly RecordedRequest[]): ReadonlySet<string | undefined> {
  return new Set(requests.map(request => request.headers.authorization));
}

const asCaller = { headers: { authorization: `Bearer ${CALLERS}` } };

test("the sidecar's own credential goes to the registry and to its artifacts", async () => {
  const { upstream } = await stageOf();
  expect(authorizations(upstream.requests)).toEqual(new Set([`Bearer ${OWN}`]));
});

test.each([401, 403])(
  'its own credential refused with %i: cached is stale with access_denied, cold fails',
  async status => {
    const { upstream, sidecar } = await stageOf();
    await upstream.setFault('registry', {
      kind: 'status',
      status,
      body: '{"error_code": "PERMISSION_DENIED", "message": "no"}',
    });
    const warm = await reload(sidecar.url, WARM);
    expect(warm.outcome).toMatchObject({ status: 'stale', version: '1', warning: { code: 'access_denied' } });
    expect(await wrongFiles(warm.outcome.path, modelFiles('warm-1'))).toEqual([]);
    const cold = await reload(sidecar.url, COLD);
    expect(cold.outcome).toMatchObject({ status: 'failed', path: null, warning: { code: 'access_denied' } });
    expect(cold.ms).toBeLessThan(atMost(1_000));
  },
);

test("a caller's own credential refused: failed, though a version is cached", async () => {
  const { upstream, sidecar } = await stageOf();
  expect((await reload(sidecar.url, WARM, {}, asCaller)).outcome).toMatchObject({
    status: 'loaded',
    version: '1',
  });
  const when = (request: RecordedRequest) => request.headers.authorization === `Bearer ${CALLERS}`;
  await upstream.setFault('registry', { kind: 'status', status: 403 }, { when });
  const { outcome } = await reload(sidecar.url, WARM, {}, asCaller);
  expect(outcome).toMatchObject({ status: 'failed', path: null, warning: { code: 'access_denied' } });
  expect((await reload(sidecar.url, WARM)).outcome).toMatchObject({ status: 'unchanged', version: '1' });
});

test("a caller's credential is asked with as it stands, and never joined with another's", async () => {
  const { upstream, sidecar } = await stageOf();
  const before = upstream.requests.length;
  const [mine, theirs] = await Promise.all([
    reload(sidecar.url, COLD),
    reload(sidecar.url, COLD, {}, asCaller),
  ]);
  expect(mine.outcome.status).toBe('loaded');
  expect(theirs.outcome.status).toBe('loaded');
  const asked = upstream.requests.slice(before).filter(request => request.routeClass === 'registry');
  expect(authorizations(asked)).toEqual(new Set([`Bearer ${OWN}`, `Bearer ${CALLERS}`]));
});

test('where a token is set it ends here', async () => {
  const token = 'sidecar-token-55aa';
  const upstream = await otherOrigin();
  upstream.addVersion({ name: 'cold', stage: 'Production', files: modelFiles('cold-1') });
  const sidecar = await startSidecar({ ...upstream.env, SIDECAR_TOKEN: token });
  onTestFinished(async () => void (await sidecar.stop()));
  const headers = { authorization: `Bearer ${token}` };
  expect((await reload(sidecar.url, COLD, {}, { headers })).outcome.status).toBe('loaded');
  expect(authorizations(upstream.requests)).toEqual(new Set([undefined]));
});

test('a redirect to another origin is not followed', async () => {
  const { upstream, sidecar } = await stageOf();
  const other = await otherOrigin();
  await upstream.setFault('file', { kind: 'redirect', origin: other.url });
  const { outcome } = await reload(sidecar.url, COLD, { deadline_s: 15 });
  expect(outcome).toMatchObject({ status: 'failed', path: null });
  await upstream.setFault('registry', { kind: 'redirect', origin: other.url });
  expect((await reload(sidecar.url, WARM)).outcome.status).toBe('stale');
  expect(other.requests).toEqual([]);
});

test('artifacts of another origin are fetched without any credential', async () => {
  const { upstream, sidecar } = await stageOf();
  const other = await otherOrigin();
  const elsewhere = other.addVersion({ name: 'x', files: modelFiles('elsewhere') });
  const downloadUri = `${other.url}/api/2.0/mlflow-artifacts/artifacts/${elsewhere.root}`;
  upstream.addVersion({ name: 'far', stage: 'Production', files: {}, downloadUri });
  const { outcome } = await reload(sidecar.url, 'models:/far/Production', { deadline_s: 5 });
  expect(outcome.status).toBe('loaded');
  expect(await wrongFiles(outcome.path, modelFiles('elsewhere'))).toEqual([]);
  expect(authorizations(other.requests)).toEqual(new Set([undefined]));
});

test('no log line and no file of the cache holds a credential', async () => {
  const { upstream, sidecar } = await stageOf();
  await reload(sidecar.url, COLD, {}, asCaller);
  await upstream.setFault('registry', { kind: 'status', status: 403, body: `token ${OWN} is not valid` });
  await reload(sidecar.url, WARM);
  await reload(sidecar.url, WARM, {}, asCaller);
  expect(sidecar.logs()).not.toContain(OWN);
  expect(sidecar.logs()).not.toContain(CALLERS);
  const grep = promisify(execFile)('grep', ['-rlE', `${OWN}|${CALLERS}`, sidecar.cacheDir]);
  await expect(grep).rejects.toMatchObject({ code: 1, stdout: '' });
});
