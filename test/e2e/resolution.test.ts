import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { manifestOf } from '../../src/domain/manifest.ts';
import { mlflowRest } from '../support/mlflow-rest.ts';
import { loadOffline, type Registered } from '../support/real-mlflow.ts';
import { type Reply, reload } from '../support/reload.ts';
import { type RunningSidecar, startSidecar } from '../support/sidecar.ts';
import { AWKWARD_NAME, UNSTAGED_NAME } from './global-setup.ts';
import { servers } from './servers.ts';

const NAME = 'topic-classification';

describe.each(servers)('on a real MLflow $version', ({ version, url, registered }) => {
  const rest = mlflowRest(url);
  let sidecar: RunningSidecar;

  beforeAll(async () => {
    sidecar = await startSidecar({ MLFLOW_TRACKING_URI: url });
  });

  afterAll(async () => {
    await sidecar.stop();
  });

  test.each(['Production', 'production', '1', 'latest'])(
    'models:/name/%s is the registered version',
    async ref => {
      const { outcome } = await reload(sidecar.url, `models:/${NAME}/${ref}`);
      expect(outcome).toMatchObject({
        name: NAME,
        version: '1',
        run_id: trained(NAME).run_id,
        warning: null,
      });
      expect(outcome.stage).toBe('Production');
      expect(outcome.aliases).toEqual(['champion']);
    },
  );

  test('models:/name@alias is the registered version, and follows the alias', async () => {
    const name = 'moving-alias';
    for (const source of [NAME, 'sentiment-analysis']) await rest.createVersion(name, trained(source));
    await rest.setAlias(name, 'champion', '2');
    expect((await reload(sidecar.url, `models:/${name}@champion`)).outcome).toMatchObject({
      status: 'loaded',
      version: '2',
    });
    await rest.setAlias(name, 'champion', '1');
    expect((await reload(sidecar.url, `models:/${name}@champion`)).outcome).toMatchObject({
      status: 'loaded',
      version: '1',
      previous_version: '2',
      changed: true,
    });
  });

  test('every way to name a version gives the same bytes, and they are what the digest says', async () => {
    const uris = [
      `models:/${NAME}/Production`,
      `models:/${NAME}@champion`,
      `models:/${NAME}/1`,
      `models:/${NAME}/latest`,
    ];
    const replies = await Promise.all(uris.map(uri => reload(sidecar.url, uri)));
    expect(new Set(replies.map(reply => reply.outcome.digest)).size).toBe(1);
    expect(new Set(replies.map(reply => reply.outcome.path)).size).toBe(1);
    const { path, digest, bytes, files } = replies[0]?.outcome ?? {};
    expect(await manifestOnDisk(path ?? '')).toMatchObject({ digest, bytes, files: { length: files } });
  });

  test('Python loads registered and run models with the network off, also a name with spaces and "@"', async () => {
    const uris = [
      `models:/${NAME}/1`,
      `models:/${AWKWARD_NAME}/Production`,
      `models:/${AWKWARD_NAME}@champion`,
      `runs:/${trained(NAME).run_id}/model`,
      ...registered.flatMap(one => (one.model_id === null ? [] : [`models:/${one.model_id}`])),
    ];
    const replies = await Promise.all(uris.map(uri => reload(sidecar.url, uri)));
    expect(replies.map(reply => reply.outcome.warning)).toEqual(uris.map(() => null));
    expect(replies[1]?.outcome.name).toBe(AWKWARD_NAME);
    const loaded = await loadOffline(version, replies.map(pathOf));
    expect(loaded.map(one => one.mlflow)).toEqual(uris.map(() => version));
    expect(loaded[0]?.predictions[0]).toBe('sport');
    expect(loaded[1]?.predictions[1]).toBe('negative');
    expect(loaded[3]?.predictions[0]).toBe('sport');
  });

  test('a version that was deleted and made again is another version', async () => {
    const name = 'made-again';
    const uri = `models:/${name}/1`;
    expect(await rest.createVersion(name, trained(NAME))).toBe('1');
    const first = await reload(sidecar.url, uri);
    expect(first.outcome).toMatchObject({ status: 'loaded', version: '1' });
    await rest.deleteModel(name);
    expect((await reload(sidecar.url, uri)).outcome).toMatchObject({
      status: 'missing',
      path: null,
      previous_version: '1',
      warning: { code: 'version_not_found' },
    });
    expect(await rest.createVersion(name, trained('sentiment-analysis'))).toBe('1');
    const second = await reload(sidecar.url, uri);
    expect(second.outcome).toMatchObject({ status: 'loaded', version: '1', changed: true });
    expect(second.outcome.run_id).toBe(trained('sentiment-analysis').run_id);
    expect(second.outcome.digest).not.toBe(first.outcome.digest);
    expect((await manifestOnDisk(pathOf(first))).digest).toBe(first.outcome.digest);
  });

  test.each([
    ['models:/no-such-model/Production', 'model_not_found'],
    ['models:/no-such-model/latest', 'model_not_found'],
    // MLflow is asked for the version alone, and says of that that it is not there; so does MLflow 2 of an alias.
    ['models:/no-such-model/1', 'version_not_found'],
    ['models:/no-such-model@champion', version === '2.22.5' ? 'alias_not_found' : 'model_not_found'],
    [`models:/${UNSTAGED_NAME}/Production`, 'no_version_in_stage'],
    [`models:/${NAME}/Staging`, 'no_version_in_stage'],
    [`models:/${NAME}/no-such-stage`, 'no_version_in_stage'],
    [`models:/${NAME}@no-such-alias`, 'alias_not_found'],
    [`models:/${NAME}/77`, 'version_not_found'],
    ['runs:/0123456789abcdef0123456789abcdef/model', 'run_not_found'],
  ])('%s is missing with %s', async (uri, code) => {
    const { status, outcome } = await reload(sidecar.url, uri);
    expect(outcome).toMatchObject({ status: 'missing', path: null, version: null, warning: { code } });
    expect(status).toBe(200);
  });

  test('a logged model that is not there is missing, also where MLflow 2 has none at all', async () => {
    const { outcome } = await reload(sidecar.url, 'models:/m-0123456789abcdef0123456789abcdef');
    expect([outcome.status, outcome.warning?.code]).toEqual(['missing', 'not_found']);
  });

  function trained(name: string): Registered {
    const found = registered.find(one => one.name === name);
    if (found === undefined) throw new Error(`${name} was not trained.`);
    return found;
  }
});

function pathOf({ outcome }: Reply): string {
  return outcome.path ?? `no path: ${outcome.warning?.message}`;
}

async function manifestOnDisk(dir: string) {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true });
  const files = entries.filter(entry => entry.isFile()).map(entry => join(entry.parentPath, entry.name));
  const read = files.map(async file => {
    const content = await readFile(file);
    const sha256 = createHash('sha256').update(content).digest('hex');
    return { path: relative(dir, file), size: content.length, sha256 };
  });
  return manifestOf(await Promise.all(read));
}
