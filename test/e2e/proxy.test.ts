import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type CountingRelay, startCountingRelay } from '../support/counting-relay.ts';
import { atMost, IS_STRICT } from '../support/limits.ts';
import { serveModel } from '../support/model-server.ts';
import type { Environment } from '../support/python-client.ts';
import { whileFrozen } from '../support/real-mlflow.ts';
import { reload } from '../support/reload.ts';
import { type RunningSidecar, startSidecar } from '../support/sidecar.ts';
import { deletes, logsArtifacts, logsRun, peakMemory, registers } from './proxy-story.ts';
import {
  artifactsIn,
  byTracking,
  expectOnce,
  NAMED,
  NUMBERED,
  PythonClients,
  publishedAt,
  SENTIMENT,
  TOPIC,
} from './proxy-support.ts';
import { servers } from './servers.ts';

/** In seconds: what a frozen MLflow may add to a load. */
const FIRST_ADDS = atMost(3_000) / 1_000;
const NEXT_ADDS = 0.2;
/** How many times as long a load may take by then, and of how many loads the quickest counts, since the machine may be busy. */
const [SLOWED, LOADS] = IS_STRICT ? [1, 3] : [2, 8];
/** What a load has that waited for MLflow; so much a busy machine may add to one of its loads. */
const WAITS = atMost(1_000) / 1_000;
const COLD_FAILS_WITHIN = atMost(10_000) / 1_000;
const MOST_MEMORY = 64 * 1024 * 1024;
/** Both clients import MLflow at once, on a machine with other things to do. */
const IMPORT_LIMIT_MS = 120_000;

const clients = new PythonClients();

afterAll(() => clients.stop());

describe.each(servers)('MLflow’s own client $version', ({ version, url, pid, registered }) => {
  const client = clients.of(version);
  const isMlflow3 = version === '3.17.2';
  const topicRun = registered.find(one => one.name === TOPIC)?.run_id;
  const sentimentModel = registered.find(one => one.name === SENTIMENT)?.model_id;
  const ofRun = `runs:/${topicRun}/model`;
  const unregistered = isMlflow3 ? [ofRun, `models:/${sentimentModel}`] : [ofRun];
  const all = [...unregistered, ...NAMED];
  const direct = new Map<string, unknown>();
  /** Seconds of a warm load. */
  const well = new Map<string, number>();
  let relay: CountingRelay;
  let cache: string;
  /** What is loaded by the registry URI, and what by the tracking URI. */
  let registry: RunningSidecar;
  let tracking: RunningSidecar;

  beforeAll(async () => {
    relay = await startCountingRelay(url);
    cache = await mkdtemp(join(tmpdir(), 'proxy-cache-'));
    [registry, tracking] = await Promise.all([sidecarWith({}), sidecarWith({ SIDECAR_CACHE_DIR: cache })]);
    const { gives } = client.at(byTracking(url));
    for (const uri of all) direct.set(uri, await gives('load', { model_uri: uri }));
  }, IMPORT_LIMIT_MS);

  afterAll(async () => {
    await Promise.all([registry.stop(), tracking.stop(), relay.close()]);
    await rm(cache, { recursive: true, force: true });
  });

  test('loads models by MLFLOW_REGISTRY_URI alone, whose files MLflow gives once', async () => {
    const first: string[] = [];
    for (const uri of NAMED) {
      await loads(uri, byRegistry(registry));
      first.push(...relay.taken());
      await loads(uri, byRegistry(registry));
      expect(artifactsIn(relay.taken()), uri).toEqual([]);
    }
    expectOnce(first, NAMED.length);
    for (const uri of unregistered) await loads(uri, byRegistry(registry));
  });

  test('loads every kind of URI by MLFLOW_TRACKING_URI alone, and MLflow gives the files once', async () => {
    const first: string[] = [];
    relay.taken();
    for (const uri of all) {
      await loads(uri, byTracking(tracking.url));
      first.push(...relay.taken());
      well.set(uri, await loads(uri, byTracking(tracking.url)));
      expectNoFiles(uri);
    }
    // What a run or a logged model holds is fetched for itself, also where a version was made of it.
    expectOnce(first, NAMED.length, isMlflow3 ? 2 : 1);
  });

  test('what it loaded is published as by a reload: under its URI, under its version, and unchanged', async () => {
    relay.taken();
    const loaded = [
      [registry, [...NAMED, ...NUMBERED]],
      [tracking, [...all, ...NUMBERED]],
    ] as const;
    for (const [sidecar, uris] of loaded) {
      await expect.poll(() => publishedAt(sidecar.url)).toEqual(expect.arrayContaining([...uris]));
      for (const uri of uris) {
        const { outcome } = await reload(sidecar.url, uri);
        expect(outcome, uri).toMatchObject({ status: 'unchanged', changed: false });
      }
    }
    expect(artifactsIn(relay.taken())).toEqual([]);
  });

  test('what a reload loaded is warm, also in read-only, where a write fails at once', async () => {
    const sidecar = await sidecarWith({ SIDECAR_PROXY: 'read-only' });
    try {
      for (const uri of all.filter(one => one !== NAMED[0])) {
        expect((await reload(sidecar.url, uri)).outcome.warning).toBeNull();
        relay.taken();
        await loads(uri, byTracking(sidecar.url));
        expectNoFiles(uri);
      }
      await loads(NAMED[0], byTracking(sidecar.url));
      const write = { name: TOPIC, key: 'owner', value: 'ana' };
      const { error, s } = await client.do('set_registered_model_tag', write, byTracking(sidecar.url));
      expect(error).toContain('SIDECAR_PROXY is read-only');
      expect(s).toBeLessThan(WAITS);
      expect(relay.taken().filter(request => request.includes('/set-tag'))).toEqual([]);
    } finally {
      await sidecar.stop();
    }
  });

  test('downloads a model, and one file of a run’s', async () => {
    for (const artifact_uri of [NAMED[0], `${ofRun}/MLmodel`]) {
      const files = await client.at(byTracking(url)).gives('download', { artifact_uri });
      expect(files).toHaveProperty('MLmodel');
      expect(await client.at(byTracking(tracking.url)).gives('download', { artifact_uri })).toEqual(files);
    }
  });

  test.concurrent('writes runs, files and models, and reads each change at once', async () => {
    const sidecar = await startSidecar({ MLFLOW_TRACKING_URI: url });
    try {
      const before = await peakMemory(sidecar.pid);
      const at = client.at(byTracking(sidecar.url));
      const run = await logsRun(at);
      await logsArtifacts(at, run);
      await registers(at, run);
      await deletes(at, run);
      expect((await peakMemory(sidecar.pid)) - before).toBeLessThan(MOST_MEMORY);
    } finally {
      await sidecar.stop();
    }
  });

  const serves = async () => {
    const server = await serveModel(version, NAMED[0], tracking.url);
    try {
      const predicted = await server.predict(['a late goal won the match', 'shares fell again']);
      expect(predicted).toEqual({ predictions: ['sport', 'economy'] });
    } finally {
      await server.stop();
    }
  };
  if (isMlflow3) test.concurrent('mlflow models serve starts and predicts', serves);

  test('loads while MLflow is frozen, the first 3 s later at most, also from a restarted sidecar', async () => {
    await whileFrozen(pid, async () => {
      await loadsQuickly();
      await tracking.stop();
      tracking = await sidecarWith({ SIDECAR_CACHE_DIR: cache });
      await loadsQuickly();
    });
  });

  async function loadsQuickly(): Promise<void> {
    const first = await loads(ofRun, byTracking(tracking.url));
    expect(first).toBeLessThan((well.get(ofRun) ?? 0) + FIRST_ADDS);
    for (const uri of all) await loadsAtOnce(uri, byTracking(tracking.url));
    for (const uri of NAMED) await loadsAtOnce(uri, byRegistry(tracking));
  }

  async function loadsAtOnce(uri: string, environment: Environment): Promise<void> {
    const most = (well.get(uri) ?? 0) * SLOWED + NEXT_ADDS;
    const took: number[] = [];
    do took.push(await loads(uri, environment));
    while (took.length < LOADS && Math.min(...took) > most);
    expect(Math.min(...took), uri).toBeLessThanOrEqual(most);
    expect(Math.max(...took), uri).toBeLessThan(most + WAITS);
  }

  /** With the same predictions as directly; gives the seconds that it took. */
  async function loads(uri: string, environment: Environment): Promise<number> {
    const { value, error, s } = await client.do('load', { model_uri: uri }, environment);
    expect({ value, error }, uri).toEqual({ value: direct.get(uri), error: null });
    return s;
  }

  /** But a listing of what the run itself has, which may change. */
  function expectNoFiles(uri: string): void {
    const asked = artifactsIn(relay.taken());
    const isOfRun = (request: string) => request.endsWith(`/${topicRun}/artifacts/model`);
    expect(
      asked.filter(request => !isOfRun(request)),
      uri,
    ).toEqual([]);
  }

  function byRegistry({ url: MLFLOW_REGISTRY_URI }: RunningSidecar): Environment {
    return { MLFLOW_TRACKING_URI: relay.url, MLFLOW_REGISTRY_URI };
  }

  function sidecarWith(env: Readonly<Record<string, string>>): Promise<RunningSidecar> {
    return startSidecar({ MLFLOW_TRACKING_URI: relay.url, ...env });
  }
});

test('what is not cached fails within 10 s while MLflow is frozen, and says why', async () => {
  await Promise.all(
    servers.map(async ({ version, url, pid }) => {
      const sidecar = await startSidecar({ MLFLOW_TRACKING_URI: url });
      try {
        const load = { model_uri: NAMED[0] };
        const { error, s } = await whileFrozen(pid, () =>
          clients.of(version).do('load', load, byTracking(sidecar.url)),
        );
        expect(error).toMatch(/mlflow-sidecar: .* \(mlflow_timeout\)$/);
        expect(s).toBeLessThan(COLD_FAILS_WITHIN);
      } finally {
        await sidecar.stop();
      }
    }),
  );
});
