import { readdir, readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { join, relative } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { givenSeed, seeded } from '../crash/harness.ts';
import { SIZES } from '../crash/sizes.ts';
import { type Logged, loadRoot, loadVersion, type Texts, Training } from '../support/mlflow-runs.ts';
import { reload } from '../support/reload.ts';
import { type RunningSidecar, startSidecar } from '../support/sidecar.ts';
import { servers } from './servers.ts';

/** Of one size, so that only their bytes tell two of them apart. */
function checkpoint(n: number): Texts {
  const mark = String(n).padStart(6, '0');
  return { MLmodel: `flavors: {}\nuuid: ${mark}\n`, 'data/weights.bin': `weights ${mark}`.repeat(50) };
}

async function filesIn(dir: string | null): Promise<Texts> {
  const entries = await readdir(dir ?? '', { recursive: true, withFileTypes: true });
  const files = entries.filter(entry => entry.isFile()).map(entry => join(entry.parentPath, entry.name));
  const texts = files.map(async path => [relative(dir ?? '', path), await readFile(path, 'utf8')] as const);
  return Object.fromEntries(await Promise.all(texts));
}

describe.each(servers)('on a real MLflow $version', ({ version: release, url }) => {
  const training = new Training(url);
  let sidecar: RunningSidecar;

  beforeAll(async () => {
    sidecar = await startSidecar({ MLFLOW_TRACKING_URI: url });
  });

  afterAll(async () => {
    await sidecar.stop();
  });

  async function reloaded(uri: string): Promise<Texts> {
    const { outcome } = await reload(sidecar.url, uri);
    expect(outcome).toMatchObject({ warning: null, status: expect.stringMatching(/loaded|unchanged/) });
    return await filesIn(outcome.path);
  }

  test('each version of a path that a run overwrites has the bytes that MLflow gives for it', async () => {
    const name = 'overwritten';
    const run = await training.startRun();
    const source = `${run.root}/model`;
    for (const n of [1, 2, 3]) {
      await training.log(source, checkpoint(n));
      const version = await training.register(name, source, { run_id: run.id });
      expect(version).toBe(String(n));
      expect(await loadVersion(url, name, version)).toEqual(checkpoint(n));
      // The one by the reload first, the next by the proxy first.
      const ways = [
        () => reloaded(`models:/${name}/${version}`),
        () => loadVersion(sidecar.url, name, version),
      ];
      for (const way of n % 2 === 1 ? ways : ways.toReversed()) expect(await way()).toEqual(checkpoint(n));
    }
    // What was loaded of a version stays what it is, for whoever comes later and by whichever way.
    for (const n of [1, 2, 3]) {
      expect(await reloaded(`models:/${name}/${n}`)).toEqual(checkpoint(n));
      expect(await loadVersion(sidecar.url, name, String(n))).toEqual(checkpoint(n));
    }
    // Another model of that name: its version 1 is at the same address.
    await training.log(source, checkpoint(4));
    await training.deleteModel(name);
    expect(await training.register(name, source, { run_id: run.id })).toBe('1');
    expect(await loadVersion(sidecar.url, name, '1')).toEqual(checkpoint(4));
    expect(await reloaded(`models:/${name}/1`)).toEqual(checkpoint(4));
  });

  test('what a run has logged so far is given, and never kept for what it will have', async () => {
    const run = await training.startRun();
    const root = `${run.root}/model`;
    const uri = `runs:/${run.id}/model`;
    await training.log(root, { MLmodel: 'flavors: {}\n' });
    expect(await reloaded(uri)).toEqual({ MLmodel: 'flavors: {}\n' });
    await training.log(root, checkpoint(1));
    expect(await reloaded(uri)).toEqual(checkpoint(1));
    await training.log(root, checkpoint(2));
    const version = await training.register('of-a-running-run', root, { run_id: run.id });
    expect(await reloaded(`models:/of-a-running-run/${version}`)).toEqual(checkpoint(2));
    expect(await loadRoot(sidecar.url, root)).toEqual(checkpoint(2));
    await training.log(root, checkpoint(3));
    await training.setStatus(run, 'FINISHED');
    expect(await reloaded(uri)).toEqual(checkpoint(3));
    expect((await reload(sidecar.url, uri)).outcome.status).toBe('unchanged');
    await training.setStatus(run, 'RUNNING');
    await training.log(root, checkpoint(4));
    expect(await reloaded(uri)).toEqual(checkpoint(4));
    expect(await loadRoot(sidecar.url, root)).toEqual(checkpoint(4));
  });

  test.runIf(release.startsWith('3.'))('a logged model is not ready before it is finalized', async () => {
    const model = await training.startModel('pending');
    await training.log(model.root, { MLmodel: 'flavors: {}\n' });
    const version = await training.register('pending', `models:/${model.id}`, { model_id: model.id });
    for (const uri of [`models:/${model.id}`, `models:/pending/${version}`]) {
      expect((await reload(sidecar.url, uri, { on_failure: 'fail' })).status).toBe(503);
      const { outcome } = await reload(sidecar.url, uri);
      expect(outcome).toMatchObject({ status: 'failed', path: null, warning: { code: 'version_not_ready' } });
    }
    // MLflow gives what there is to its own client, and so does the proxy, which keeps none of it.
    expect(await loadVersion(sidecar.url, 'pending', version)).toEqual({ MLmodel: 'flavors: {}\n' });
    await training.log(model.root, checkpoint(1));
    expect(await loadVersion(sidecar.url, 'pending', version)).toEqual(checkpoint(1));
    await training.finalize(model);
    for (const uri of [`models:/${model.id}`, `models:/pending/${version}`])
      expect(await reloaded(uri)).toEqual(checkpoint(1));
    expect(await loadVersion(sidecar.url, 'pending', version)).toEqual(checkpoint(1));
  });

  test('an answer that is another model’s is refused with the names of both, and nothing comes of it', async () => {
    const run = await training.startRun();
    for (const [n, name] of ['mixed-a', 'mixed-b'].entries()) {
      await training.log(`${run.root}/${name}`, checkpoint(n));
      await training.register(name, `${run.root}/${name}`, { run_id: run.id });
    }
    const cache = await startCache(url);
    const mixed = await startSidecar({ MLFLOW_TRACKING_URI: cache.url });
    onTestFinished(async () => {
      await mixed.stop();
      cache.stop();
    });
    expect((await reload(mixed.url, 'models:/mixed-b/1')).outcome.status).toBe('loaded');
    for (const uri of ['models:/mixed-a/1', 'models:/mixed-a/1']) {
      const { outcome, status } = await reload(mixed.url, uri, { on_failure: 'fail' });
      expect(status).toBe(502);
      expect(outcome).toMatchObject({ status: 'failed', path: null, warning: { code: 'mlflow_error' } });
      expect(outcome.warning?.message).toContain('"mixed-a"');
      expect(outcome.warning?.message).toContain('"mixed-b"');
    }
    await expect(loadVersion(mixed.url, 'mixed-a', '1')).rejects.toThrow(
      /mixed-a.*mixed-b|artifacts of version/,
    );
  });

  test(`${SIZES.interleavings} random interleavings of logging, registering, reloading and loading`, async () => {
    const seed = givenSeed();
    const random = seeded(seed);
    const pick = <T>(all: readonly T[]) => all[Math.floor(random() * all.length)];
    let n = 0;
    let loads = 0;
    for (let round = 0; round < SIZES.interleavings; round++) {
      const name = `random-${seed}-${round}`;
      const runs: (Logged & { status: 'RUNNING' | 'FINISHED' })[] = [];
      const start = async () => runs.push({ ...(await training.startRun()), status: 'RUNNING' });
      await start();
      /** By version: where it is, and the bytes of its first load, which it keeps. */
      const versions = new Map<string, { readonly source: string; bytes: Texts | null }>();
      const logged = new Set<string>();
      const load = async (version: string) => {
        const known = versions.get(version);
        const wanted = known?.bytes ?? (await loadVersion(url, name, version));
        const way = random() < 0.5;
        const bytes = await (way
          ? reloaded(`models:/${name}/${version}`)
          : loadVersion(sidecar.url, name, version));
        loads++;
        expect(bytes, `seed ${seed}, round ${round}, version ${version}`).toEqual(wanted);
        if (known !== undefined) known.bytes = wanted;
      };
      for (let step = 0; step < 10; step++) {
        const run = pick(runs);
        if (run === undefined) break;
        const source = `${run.root}/model`;
        const dice = random();
        if (dice < 0.3 || !logged.has(source)) {
          if (run.status === 'FINISHED') await training.setStatus(run, 'RUNNING');
          run.status = 'RUNNING';
          n++;
          await training.log(
            source,
            random() < 0.7 ? checkpoint(n) : { ...checkpoint(n), 'more.txt': `${n}` },
          );
          logged.add(source);
        }
        if (dice < 0.5 || versions.size === 0)
          versions.set(await training.register(name, source, { run_id: run.id }), { source, bytes: null });
        else if (dice < 0.55) await start();
        else if (dice < 0.65) {
          const uri = `runs:/${run.id}/model`;
          if (run.status === 'RUNNING' && random() < 0.5) {
            await training.setStatus(run, 'FINISHED');
            run.status = 'FINISHED';
          }
          expect(await reloaded(uri), `seed ${seed}, round ${round}, ${uri}`).toEqual(
            await loadRoot(url, source),
          );
        } else if (dice < 0.9) await load(pick([...versions.keys()]) ?? '');
        else await Promise.all([...versions.keys()].map(load));
      }
    }
    expect(loads).toBeGreaterThan(SIZES.interleavings);
  });
});

/** A cache that takes requests of one path for one, whatever their query. */
async function startCache(upstream: string) {
  const kept = new Map<string, { readonly status: number; readonly type: string; readonly body: Buffer }>();
  const server = createServer((request, response) => {
    void (async () => {
      const path = (request.url ?? '').split('?')[0] ?? '';
      const isCached = request.method === 'GET' && path.includes('/mlflow/');
      const found = isCached ? kept.get(path) : undefined;
      const answer = found ?? (await ask(`${upstream}${request.url}`));
      if (isCached) kept.set(path, answer);
      response.writeHead(answer.status, {
        'content-type': answer.type,
        'content-length': answer.body.length,
      });
      response.end(answer.body);
    })();
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  const port = typeof address === 'object' ? address?.port : 0;
  const stop = () => {
    server.closeAllConnections();
    server.close();
  };
  return { url: `http://127.0.0.1:${port}`, stop };
}

async function ask(url: string) {
  const response = await fetch(url);
  const type = response.headers.get('content-type') ?? 'text/plain';
  return { status: response.status, type, body: Buffer.from(await response.arrayBuffer()) };
}
