import { expect, onTestFinished, test } from 'vitest';
import { z } from 'zod';
import { account } from '../crash/account.ts';
import { givenSeed, seeded } from '../crash/harness.ts';
import { SIZES } from '../crash/sizes.ts';
import { loadModel } from '../support/mlflow-load.ts';
import { type Fault, ScriptedMlflow, type ScriptedVersion } from '../support/scripted-mlflow.ts';
import { type RunningSidecar, startSidecar } from '../support/sidecar.ts';
import { modelFiles, reload, until, wrongFiles } from './harness.ts';

const API = '/api/2.0/mlflow-artifacts';
const DownloadUri = z.object({ artifact_uri: z.string() });
const NAMES = ['a', 'b', 'c'];
const STRANGER = { authorization: 'Bearer stranger' };
const AT_ONCE = 8;
/** A client that leaves gives MLflow this time to have got what it sent. */
const LEAVES_MS = 30;

function uriOf(name: string): string {
  return `models:/${name}/Production`;
}

/** A sidecar with these models in its cache. */
async function start(names: readonly string[], more: Readonly<Record<string, string>> = {}) {
  const upstream = await ScriptedMlflow.start();
  onTestFinished(() => upstream.close());
  const versions = names.map(name =>
    upstream.addVersion({ name, stage: 'Production', files: modelFiles(name) }),
  );
  const sidecar = await startSidecar({
    ...upstream.env,
    // Of all that breaks here nothing is to be kept away from MLflow.
    SIDECAR_BREAKER_FAILURES: '1000',
    SIDECAR_REFRESH_WAIT_S: '0.5',
    ...more,
  });
  onTestFinished(async () => void (await sidecar.stop()));
  for (const name of names) await loadModel(sidecar.url, uriOf(name));
  await until(20_000, async () => ((await publishedAt(sidecar)) === names.length ? true : null));
  return { upstream, versions, sidecar };
}

async function publishedAt({ url }: RunningSidecar): Promise<number> {
  const answers = await Promise.all(
    NAMES.map(async name => {
      const response = await fetch(`${url}/v1/models/${name}`);
      return (await response.text()).includes(`"models:/${name}/Production"`);
    }),
  );
  return answers.filter(Boolean).length;
}

/** What MLflow was asked of artifacts by whoever reads them. */
function artifactReads({ requests }: ScriptedMlflow): number {
  return requests.filter(({ method, routeClass }) => method === 'GET' && routeClass !== 'registry').length;
}

interface Write {
  readonly method: string;
  readonly path: string;
  readonly body?: string;
}

/** What a client may send to change a version. */
function writesTo({ root }: ScriptedVersion): readonly Write[] {
  const above = root.slice(0, root.lastIndexOf('/'));
  return [
    { method: 'DELETE', path: `/artifacts/${root}/MLmodel` },
    { method: 'DELETE', path: `/artifacts/${root}` },
    { method: 'DELETE', path: `/artifacts/${above}` },
    { method: 'PUT', path: `/artifacts/${root}/model.pkl`, body: 'other' },
    { method: 'PUT', path: `/artifacts/${root}/new/file`, body: 'x'.repeat(100_000) },
    { method: 'POST', path: `/mpu/create/${root}/MLmodel`, body: '{"path": "MLmodel", "num_parts": 1}' },
    { method: 'POST', path: `/mpu/complete/${root}/MLmodel`, body: '{"path": "MLmodel", "parts": []}' },
    { method: 'POST', path: `/mpu/abort/${root}/MLmodel`, body: '{"path": "MLmodel"}' },
  ];
}

/** Its status; null where none came. */
async function send(
  { url }: RunningSidecar,
  { method, path, body }: Write,
  headers: Readonly<Record<string, string>> = {},
  signal?: AbortSignal,
): Promise<number | null> {
  const request = { method, headers, body: body ?? null, signal: signal ?? null };
  const answer = await fetch(`${url}${API}${path}`, request).catch(() => null);
  await answer?.arrayBuffer().catch(() => undefined);
  return answer?.status ?? null;
}

const REFUSED = [301, 307, 400, 401, 403, 404, 405, 409, 429, 501];
const FATES: Readonly<Record<string, readonly Fault[]>> = {
  refused: REFUSED.map(status => ({ kind: 'status', status, body: '{"error_code": "X", "message": "No."}' })),
  failed: [500, 502, 503, 504].map(status => ({ kind: 'status', status, body: 'Oh.' })),
  unanswered: [{ kind: 'reset' }, { kind: 'silent' }],
};

/** Whom a write may not concern: one that was refused nobody, any other whoever did not send it. */
function senderOf(fate: string, random: number) {
  return fate === 'refused' && random < 0.5 ? {} : STRANGER;
}

test(`${SIZES.writes} writes that were refused, failed or got no answer take nothing away, and cost no download`, async () => {
  const { upstream, versions, sidecar } = await start(NAMES);
  const random = seeded(givenSeed());
  const pick = <T>(from: readonly T[]): T => {
    const one = from[Math.floor(random() * from.length)];
    if (one === undefined) throw new Error('Nothing to pick from.');
    return one;
  };
  const reads = artifactReads(upstream);
  const counts: Record<string, number> = { refused: 0, failed: 0, unanswered: 0, unsent: 0 };
  for (let sent = 0; sent < SIZES.writes; ) {
    const fate = pick(Object.keys(FATES));
    const fault = pick(FATES[fate] ?? []);
    const isWrite = ({ method }: { readonly method: string }) => method !== 'GET';
    await upstream.clearFaults();
    for (const of of ['file', 'registry'] as const) await upstream.setFault(of, fault, { when: isWrite });
    const writes = Array.from({ length: AT_ONCE }, async () => {
      const signal = fault.kind === 'silent' ? AbortSignal.timeout(LEAVES_MS) : undefined;
      const status = await send(sidecar, pick(writesTo(pick(versions))), senderOf(fate, random()), signal);
      expect([fate, status === null ? '' : status >= 400]).toEqual([fate, status === null ? '' : true]);
    });
    await Promise.all(writes);
    counts[fate] = (counts[fate] ?? 0) + AT_ONCE;
    sent += AT_ONCE;
  }
  await upstream.clearFaults();
  for (const of of ['listing', 'registry'] as const) await upstream.setFault(of, { kind: 'refused' });
  for (const version of versions) {
    for (const write of writesTo(version)) {
      // Whoever loads it has not changed it either.
      for (const sender of [{}, STRANGER]) expect(await send(sidecar, write, sender)).toBe(424);
      counts['unsent'] = (counts['unsent'] ?? 0) + 2;
    }
  }
  for (const name of NAMES) await expectLoads(sidecar, name);
  await upstream.clearFaults();
  for (const name of NAMES) {
    await expectLoads(sidecar, name);
    const { outcome } = await reload(sidecar.url, uriOf(name));
    expect([outcome.status, await wrongFiles(outcome.path, modelFiles(name))]).toEqual(['unchanged', []]);
  }
  expect(artifactReads(upstream) - reads).toBe(0);
  await account('writes that changed nothing', counts);
}, 600_000);

async function expectLoads({ url }: RunningSidecar, name: string, label = name): Promise<void> {
  const { files } = await loadModel(url, uriOf(name));
  const wrong = Object.entries(modelFiles(label)).flatMap(([path, content]) =>
    files.get(path)?.equals(Buffer.from(content)) === true ? [] : [path],
  );
  expect(wrong).toEqual([]);
}

/** Of the version, by the address that clients are told. */
async function listing({ url }: RunningSidecar): Promise<Response> {
  const told = await fetch(`${url}/api/2.0/mlflow/model-versions/get-download-uri?name=a&version=1`);
  const { artifact_uri } = DownloadUri.parse(await told.json());
  const path = decodeURIComponent(artifact_uri.slice(`${url}${API}/artifacts/`.length));
  const response = await fetch(`${url}${API}/artifacts?path=${encodeURIComponent(path)}`);
  await response.arrayBuffer();
  return response;
}

test('a write of one’s own that got no answer may have been done: what is there is given as old, and asked for again', async () => {
  const { upstream, versions, sidecar } = await start(['a']);
  const [version] = versions;
  if (version === undefined) throw new Error('There is no version.');
  const write = { method: 'PUT', path: `/artifacts/${version.root}/model.pkl`, body: 'other' };
  // A connection that ends before the body leaves has sent nothing.
  await until(30_000, async () => {
    await upstream.clearFaults();
    await upstream.setFault('file', { kind: 'reset' }, { when: ({ method }) => method === 'PUT' });
    expect(await send(sidecar, write)).toBe(424);
    await upstream.setFault('listing', { kind: 'refused' });
    return (await listing(sidecar)).headers.get('x-sidecar-stale') === null ? null : true;
  });
  // It was done.
  upstream.models.replaceFiles(version, modelFiles('a2'));
  for (const turn of ['once', 'again']) {
    const old = await listing(sidecar);
    expect([turn, old.status]).toEqual([turn, 200]);
    expect(old.headers.get('x-sidecar-stale')).toMatch(/^(mlflow_unreachable|mlflow_timeout)$/);
    expect(old.headers.get('age')).toMatch(/^\d+$/);
    await expectLoads(sidecar, 'a');
  }
  const { outcome } = await reload(sidecar.url, uriOf('a'), { deadline_s: 1 });
  expect([outcome.status, await wrongFiles(outcome.path, modelFiles('a'))]).toEqual(['stale', []]);
  await upstream.clearFaults();
  await until(30_000, async () =>
    (await listing(sidecar)).headers.get('x-sidecar-stale') === null ? true : null,
  );
  await expectLoads(sidecar, 'a', 'a2');
  const after = await until(30_000, async () => {
    const { outcome: now } = await reload(sidecar.url, uriOf('a'));
    return now.path === outcome.path ? null : now;
  });
  expect(await wrongFiles(after.path, modelFiles('a2'))).toEqual([]);
});

test('a write that MLflow took is read by everybody, by reload and through the proxy', async () => {
  const { upstream, versions, sidecar } = await start(['a']);
  const [version] = versions;
  if (version === undefined) throw new Error('There is no version.');
  const other = { headers: { authorization: 'Bearer other' } };
  await reload(sidecar.url, uriOf('a'), {}, other);
  await upstream.setFault(
    'file',
    { kind: 'status', status: 200, body: '{}' },
    { when: ({ method }) => method === 'DELETE' },
  );
  const above = version.root.slice(0, version.root.lastIndexOf('/'));
  expect(await send(sidecar, { method: 'DELETE', path: `/artifacts/${above}` }, STRANGER)).toBe(200);
  upstream.models.replaceFiles(version, modelFiles('a2'));
  for (const more of [{}, other]) {
    const { outcome } = await reload(sidecar.url, uriOf('a'), {}, more);
    expect([outcome.status, await wrongFiles(outcome.path, modelFiles('a2'))]).toEqual(['loaded', []]);
  }
  await expectLoads(sidecar, 'a', 'a2');
});

test('what is given again for a moment is asked for after a write that was taken, and after no other’s', async () => {
  const { upstream, sidecar } = await start(['a'], { SIDECAR_FRESH_S: '600' });
  const asked = () => upstream.requests.filter(({ route }) => route === 'registered-models/get').length;
  const read = async () => {
    const before = asked();
    await fetch(`${sidecar.url}/api/2.0/mlflow/registered-models/get?name=a`).then(answer => answer.text());
    return asked() - before;
  };
  const write = async (headers: Readonly<Record<string, string>>, status: number, path: string) => {
    const when = ({ method }: { readonly method: string }) => method === 'POST';
    await upstream.setFault('registry', { kind: 'status', status, body: '{}' }, { when });
    const request = { method: 'POST', headers, body: '{"name": "a"}' };
    await fetch(`${sidecar.url}/api/2.0/mlflow/${path}`, request).then(answer => answer.text());
  };
  await read();
  expect(await read()).toBe(0);
  for (const status of [401, 405, 503]) await write(STRANGER, status, 'registered-models/rename');
  await write(STRANGER, 200, 'traces/search');
  expect(await read()).toBe(0);
  for (const [headers, status] of [
    [STRANGER, 200],
    [{}, 503],
  ] as const) {
    await write(headers, status, 'registered-models/rename');
    expect([await read(), await read()]).toEqual([1, 0]);
  }
});
