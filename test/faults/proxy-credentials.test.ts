import { execFile } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { z } from 'zod';
import { bytesOf, call, type Reply, sendBytes } from '../http/support.ts';
import { type Arrived, type RecordingUpstream, recordingUpstream } from '../support/recording-upstream.ts';
import { ScriptedMlflow } from '../support/scripted-mlflow.ts';
import { type RunningSidecar, startSidecar } from '../support/sidecar.ts';
import { modelFiles, reload } from './harness.ts';

const API = '/api/2.0/mlflow';
const ARTIFACTS = '/api/2.0/mlflow-artifacts/artifacts';
const TOKEN = 'sidecar-token-55aa';
const OWN = 'own-secret-7f3a';
const MINE = 'callers-secret-91bd';
const THEIRS = 'others-secret-20cf';

const bearer = (secret: string) => ({ authorization: `Bearer ${secret}` });

async function started(env: Readonly<Record<string, string>>): Promise<RunningSidecar> {
  const sidecar = await startSidecar(env);
  onTestFinished(async () => void (await sidecar.stop()));
  return sidecar;
}

/** No line of its log and no file of its cache holds one of the secrets. */
async function keepsThem(sidecar: RunningSidecar): Promise<void> {
  for (const secret of [TOKEN, OWN, MINE, THEIRS]) expect(sidecar.logs()).not.toContain(secret);
  const grep = promisify(execFile)('grep', ['-rlE', [TOKEN, OWN, MINE, THEIRS].join('|'), sidecar.cacheDir]);
  await expect(grep).rejects.toMatchObject({ code: 1, stdout: '' });
}

/** What says who the caller is, by what way it came, and what is between two neighbours alone. */
const NOT_FOR_MLFLOW = [
  ...[
    'Cookie: session=c00kie',
    'Forwarded: for=1.2.3.4;host=evil',
    'X-Forwarded-For: 1.2.3.4',
    'X-Forwarded-Host: evil',
  ],
  ...[
    'X-Real-Ip: 1.2.3.4',
    'Via: 1.1 front',
    'Proxy-Authorization: Basic eDp5',
    'TE: trailers',
    'Keep-Alive: timeout=9',
  ],
  ...[
    'Origin: http://localhost:1',
    'Referer: http://localhost:1/x',
    'X-Airflow-Dag-Id: dag',
    'X-Hop: 1',
    'Connection: X-Hop',
  ],
];
const THEIR_VALUES = [
  'c00kie',
  '1.2.3.4',
  'evil',
  'front',
  'eDp5',
  'trailers',
  'timeout=9',
  'localhost:1',
  'dag',
];

const READS = [
  '/version',
  `${API}/registered-models/get?name=a`,
  `${ARTIFACTS}?path=0/x`,
  `${ARTIFACTS}/0/x/f`,
];
const RELAYED = ['registered-models/create', 'runs/create', 'webhooks'].map(path => `${API}/${path}`);

describe('whom MLflow takes for the caller', () => {
  let upstream: RecordingUpstream;
  /** One for each environment. */
  const sidecars = new Map<string, RunningSidecar>();

  beforeAll(async () => {
    upstream = await recordingUpstream();
  });

  afterAll(async () => {
    for (const sidecar of sidecars.values()) await sidecar.stop();
    await upstream.close();
  });

  async function over(env: Readonly<Record<string, string>>): Promise<RunningSidecar> {
    const key = JSON.stringify(env);
    const sidecar =
      sidecars.get(key) ??
      (await startSidecar({ MLFLOW_TRACKING_URI: upstream.url, SIDECAR_PROXY: 'full', ...env }));
    sidecars.set(key, sidecar);
    return sidecar;
  }

  /** What MLflow was asked for these headers: reads, and what was relayed. */
  async function asked(sidecar: RunningSidecar, headers: readonly string[]) {
    const before = upstream.requests.length;
    const port = Number(new URL(sidecar.url).port);
    const lines = ['Host: localhost', 'Content-Type: application/json', ...headers];
    const send = async (method: string, path: string, body: string) =>
      expect((await sendBytes(port, bytesOf(method, path, lines, body))).status).toBe(200);
    for (const path of READS) await send('GET', path, '');
    for (const path of RELAYED) await send('POST', path, '{"a":1}');
    const all = upstream.requests.slice(before).filter(({ line }) => line !== 'GET /health');
    const [reads, relayed] = ['GET', 'POST'].map(method =>
      all.filter(({ line }) => line.startsWith(`${method} `)),
    );
    expect([reads?.length, relayed?.length]).toEqual([READS.length, RELAYED.length]);
    return { all, reads: reads ?? [], relayed: relayed ?? [] };
  }

  const authorizations = (all: readonly Arrived[]) => [
    ...new Set(all.map(({ headers }) => headers.authorization)),
  ];
  const basic = Buffer.from(`user:${TOKEN}`).toString('base64');
  const both = { SIDECAR_TOKEN: TOKEN, MLFLOW_TRACKING_TOKEN: OWN };

  test.each<
    [string, Readonly<Record<string, string>>, string | null, string | undefined, string | undefined]
  >([
    ['a token and a credential of its own', both, `Bearer ${TOKEN}`, `Bearer ${OWN}`, undefined],
    ['a token as a password', both, `Basic ${basic}`, `Bearer ${OWN}`, undefined],
    ['a token alone', { SIDECAR_TOKEN: TOKEN }, `Bearer ${TOKEN}`, undefined, undefined],
    ['its own alone', { MLFLOW_TRACKING_TOKEN: OWN }, `Bearer ${MINE}`, `Bearer ${OWN}`, `Bearer ${MINE}`],
    [
      'its own alone, and a caller without one',
      { MLFLOW_TRACKING_TOKEN: OWN },
      null,
      `Bearer ${OWN}`,
      undefined,
    ],
    ['neither', {}, `Bearer ${MINE}`, `Bearer ${MINE}`, `Bearer ${MINE}`],
    ['neither, and a caller without one', {}, null, undefined, undefined],
  ])('with %s', async (_, env, given, reads, relayed) => {
    const sidecar = await over(env);
    const own = given === null ? [] : [`Authorization: ${given}`];
    const found = await asked(sidecar, [...own, ...NOT_FOR_MLFLOW]);
    expect([authorizations(found.reads), authorizations(found.relayed)]).toEqual([[reads], [relayed]]);
    const text = JSON.stringify(found.all);
    for (const value of [TOKEN, basic, ...THEIR_VALUES]) expect(text).not.toContain(value);
    const { host } = new URL(upstream.url);
    expect(new Set(found.all.map(({ headers }) => headers.host))).toEqual(new Set([host]));
    await keepsThem(sidecar);
  });

  test('in the workspace that is configured, or in the one that the caller names', async () => {
    const sidecar = await over({ MLFLOW_WORKSPACE: 'usual' });
    const workspaces = (all: readonly Arrived[]) =>
      new Set(all.map(({ headers }) => headers['x-mlflow-workspace']));
    expect(workspaces((await asked(sidecar, [])).all)).toEqual(new Set(['usual']));
    const { all } = await asked(sidecar, ['X-MLFLOW-WORKSPACE: team-a']);
    expect(workspaces(all)).toEqual(new Set(['team-a']));
  });
});

/** Until nothing was asked for a while: what is loaded is published in the background. */
async function settled({ requests }: ScriptedMlflow): Promise<void> {
  for (let seen = -1; seen !== requests.length; ) {
    seen = requests.length;
    await delay(300);
  }
}

const Located = z.object({ artifact_uri: z.string() });

/** What one who loads a model asks, in its order; the last two by the address that it was told. */
async function load(
  sidecar: RunningSidecar,
  headers: Readonly<Record<string, string>>,
): Promise<readonly Reply[]> {
  const ask = (address: string) => call(address, { headers });
  const get = (path: string) => ask(sidecar.url + API + path);
  const latest = await get('/registered-models/get-latest-versions?name=secret&stages=Production');
  const version = await get('/model-versions/get?name=secret&version=1');
  const location = await get('/model-versions/get-download-uri?name=secret&version=1');
  const told = Located.safeParse(JSON.parse(location.text)).data?.artifact_uri;
  const address = told ?? `${sidecar.url}${ARTIFACTS}/${ROOT}`;
  return [
    latest,
    version,
    location,
    await ask(`${sidecar.url}${ARTIFACTS}?path=${ROOT}`),
    await ask(`${address}/model.pkl`),
  ];
}

const ROOT = `0/models/m-${'1'.padStart(32, '0')}/artifacts`;
const statuses = (replies: readonly Reply[]) => replies.map(({ status }) => status);
const FILES = modelFiles('secret');

describe('what was read by one', () => {
  let upstream: ScriptedMlflow;
  let sidecar: RunningSidecar;
  const inA = { ...bearer(MINE), 'x-mlflow-workspace': 'team-a' };
  const STRANGERS: readonly (readonly [string, Readonly<Record<string, string>>])[] = [
    ['another credential', { ...bearer(THEIRS), 'x-mlflow-workspace': 'team-a' }],
    ['none', { 'x-mlflow-workspace': 'team-a' }],
    ['another workspace', { ...bearer(MINE), 'x-mlflow-workspace': 'team-b' }],
    ['the usual workspace', bearer(MINE)],
    [
      'its credential in another form',
      { authorization: `Basic ${Buffer.from(MINE).toString('base64')}`, 'x-mlflow-workspace': 'team-a' },
    ],
  ];

  beforeAll(async () => {
    upstream = await ScriptedMlflow.start();
    upstream.addVersion({ name: 'secret', stage: 'Production', files: FILES });
    sidecar = await startSidecar({ ...upstream.env, SIDECAR_PROXY: 'full' });
  });

  afterAll(async () => {
    await sidecar.stop();
    await upstream.close();
  });

  test('was asked with its credential and in its workspace, files too', async () => {
    const replies = await load(sidecar, inA);
    expect(statuses(replies)).toEqual([200, 200, 200, 200, 200]);
    expect(replies.at(-1)?.text).toBe(FILES['model.pkl']);
    // What is brought into the store and published is asked for in the background, too.
    await settled(upstream);
    expect(upstream.counts('file').size).toBe(3);
    const asked = upstream.requests.filter(({ url }) => url !== '/health');
    expect(new Set(asked.map(({ headers }) => headers.authorization))).toEqual(new Set([`Bearer ${MINE}`]));
    expect(new Set(asked.map(({ headers }) => headers['x-mlflow-workspace']))).toEqual(new Set(['team-a']));
    await keepsThem(sidecar);
  });

  test.each(STRANGERS)('is asked of MLflow again for one with %s', async (_, headers) => {
    const before = upstream.requests.length;
    await load(sidecar, headers);
    const asked = upstream.requests.slice(before).filter(({ url }) => url !== '/health');
    expect(new Set(asked.map(({ routeClass }) => routeClass))).toEqual(
      new Set(['registry', 'listing', 'file']),
    );
    const seen = new Set(
      asked.map(one => JSON.stringify([one.headers.authorization, one.headers['x-mlflow-workspace']])),
    );
    const { authorization, 'x-mlflow-workspace': workspace } = headers;
    expect(seen).toEqual(new Set([JSON.stringify([authorization, workspace])]));
  });

  test('is given to it while MLflow is down, and to nobody else', async () => {
    const hasty = {
      SIDECAR_BREAKER_FAILURES: '1',
      MLFLOW_HTTP_REQUEST_MAX_RETRIES: '0',
      SIDECAR_RELOAD_DEADLINE_S: '1',
    };
    const other = await started({ ...upstream.env, ...hasty, SIDECAR_PROXY: 'read-only' });
    await load(other, inA);
    await settled(upstream);
    onTestFinished(() => upstream.clearFaults());
    await upstream.setFault('registry', { kind: 'refused' });
    await upstream.setFault('listing', { kind: 'refused' });
    const own = await load(other, inA);
    expect(statuses(own)).toEqual([200, 200, 200, 200, 200]);
    expect(own[0]?.headers.get('x-sidecar-stale')).toMatch(/^(mlflow_unreachable|circuit_open)$/);
    expect(own.at(-1)?.text).toBe(FILES['model.pkl']);
    const loads = STRANGERS.map(async ([who, headers]) => ({ who, replies: await load(other, headers) }));
    for (const { who, replies } of await Promise.all(loads)) {
      expect([who, ...statuses(replies)]).toEqual([who, 424, 424, 424, 424, 424]);
      for (const { text, headers: sent } of replies) {
        expect(sent.get('x-sidecar-stale')).toBeNull();
        expect(text).not.toMatch(/secret-weights|artifact_uri|current_stage/);
      }
    }
  });

  test('is where the sidecar has it, also while MLflow is down and nothing was loaded', async () => {
    const other = await started({ ...upstream.env, SIDECAR_PROXY: 'read-only' });
    const ask = () => call(`${other.url}${API}/model-versions/get-download-uri?name=secret&version=1`);
    const before = await ask();
    onTestFinished(() => upstream.clearFaults());
    await upstream.setFault('registry', { kind: 'refused' });
    const after = await ask();
    expect(after.headers.get('x-sidecar-stale')).not.toBeNull();
    expect(JSON.parse(after.text)).toEqual(JSON.parse(before.text));
    expect(after.text).toContain(other.url);
  });

  test('is nothing to the reload API, which asks in the usual workspace', async () => {
    const before = upstream.requests.length;
    const headers = { ...bearer(MINE), 'x-mlflow-workspace': 'team-a' };
    expect((await reload(sidecar.url, 'models:/secret/Production', {}, { headers })).outcome.status).not.toBe(
      'failed',
    );
    const asked = upstream.requests
      .slice(before)
      .filter(({ routeClass, url }) => routeClass === 'registry' && url !== '/health');
    expect(asked.length).toBeGreaterThan(0);
    expect(new Set(asked.map(one => one.headers['x-mlflow-workspace']))).toEqual(new Set([undefined]));
  });
});
