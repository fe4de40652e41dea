import { realpath } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { atMost } from '../support/limits.ts';
import { ScriptedMlflow } from '../support/scripted-mlflow.ts';
import { type RunningSidecar, startSidecar } from '../support/sidecar.ts';
import { GRACE_MS, modelFiles, refusedReload, reload, until, wrongFiles } from './harness.ts';

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

function add(
  name: string,
  version: number,
  where: { stage?: string; aliases?: string[] } = { stage: 'Production' },
) {
  return upstream.addVersion({
    name,
    version: String(version),
    files: modelFiles(`${name}-${version}`),
    ...where,
  });
}

async function loaded(name: string, ref = '/Production') {
  const { outcome } = await reload(sidecar.url, `models:/${name}${ref}`);
  expect(outcome.status).toBe('loaded');
  return outcome;
}

describe('what has changed', () => {
  test('a first reload is loaded, the next one unchanged, a newer version loaded', async () => {
    add('changes', 1);
    const first = await loaded('changes');
    expect(first).toMatchObject({
      version: '1',
      previous_version: null,
      changed: true,
      source: 'mlflow',
      files: 3,
    });
    const again = (await reload(sidecar.url, 'models:/changes/production')).outcome;
    expect(again).toMatchObject({ status: 'unchanged', version: '1', changed: false, path: first.path });
    add('changes', 2);
    const newer = await loaded('changes');
    expect(newer).toMatchObject({ version: '2', previous_version: '1', changed: true });
    expect(await wrongFiles(newer.path, modelFiles('changes-2'))).toEqual([]);
    expect(await wrongFiles(first.path, modelFiles('changes-1'))).toEqual([]);
  });

  test('a version deleted and made again under its number is loaded anew', async () => {
    add('again', 1);
    const first = await loaded('again');
    upstream.models.deleteVersion('again', '1');
    upstream.addVersion({ name: 'again', version: '1', stage: 'Production', files: modelFiles('other') });
    const second = await loaded('again');
    expect(second).toMatchObject({ version: '1', changed: true });
    expect(second.path).not.toBe(first.path);
    expect(await wrongFiles(second.path, modelFiles('other'))).toEqual([]);
  });

  test('force downloads what is cached once more', async () => {
    const made = add('force', 1);
    await loaded('force');
    const { outcome } = await reload(sidecar.url, 'models:/force/Production', { force: true });
    expect(outcome).toMatchObject({ status: 'loaded', version: '1', source: 'mlflow' });
    expect(upstream.counts('file').get(`${made.root}/MLmodel`)).toBe(2);
    expect(await wrongFiles(outcome.path, modelFiles('force-1'))).toEqual([]);
  });
});

describe('a definite no', () => {
  const gone = [
    [
      'no_version_in_stage',
      '/Production',
      { stage: 'Production' },
      (name: string) => upstream.models.moveStage(name, '1', 'Archived'),
    ],
    [
      'alias_not_found',
      '@champion',
      { aliases: ['champion'] },
      (name: string) => upstream.models.deleteAlias(name, 'champion'),
    ],
    ['model_not_found', '/latest', {}, (name: string) => upstream.models.deleteVersion(name, '1')],
    ['version_not_found', '/1', {}, (name: string) => upstream.models.deleteVersion(name, '1')],
  ] as const;

  test.each(gone)('%s is missing, and what was published stays', async (code, ref, where, remove) => {
    add(code, 1, { ...where, aliases: [] });
    if (ref === '@champion') upstream.models.setAlias(code, 'champion', '1');
    if (code === 'version_not_found') add(code, 2, {});
    const before = await loaded(code, ref);
    remove(code);
    const { outcome } = await reload(sidecar.url, `models:/${code}${ref}`);
    expect(outcome).toMatchObject({
      status: 'missing',
      path: null,
      version: null,
      previous_version: '1',
      changed: false,
    });
    expect(outcome.warning?.code).toBe(code);
    const refused = await refusedReload(sidecar.url, {
      body: { model_uri: `models:/${code}${ref}`, on_failure: 'fail' },
    });
    expect(refused.http).toBe(404);
    expect(refused.problem).toMatchObject({ code, status: 'missing', path: null, previous_version: '1' });
    expect(refused.headers.get('content-type')).toContain('application/problem+json');
    expect(await realpath(before.ref_path ?? '')).toBe(before.path);
    expect(await wrongFiles(before.ref_path, modelFiles(`${code}-1`))).toEqual([]);
  });

  test('an empty stage says that this may be expected', async () => {
    add('empty-stage', 1, {});
    const { outcome } = await reload(sidecar.url, 'models:/empty-stage/Production');
    expect(outcome).toMatchObject({ status: 'missing', previous_version: null });
    expect(outcome.warning?.hint).toContain('may be expected if no model is in Production stage yet');
  });
});

describe('too slow for its caller', () => {
  test('a newer version that is not there by the deadline is wanted_version, and comes in the background', async () => {
    add('late', 1);
    await loaded('late');
    const newer = add('late', 2);
    const { promise: released, resolve: release } = Promise.withResolvers<void>();
    await upstream.setFault(
      'file',
      { kind: 'after', act: () => released },
      { when: r => r.path.startsWith(newer.root) },
    );
    const { outcome, ms } = await reload(sidecar.url, 'models:/late/Production', { deadline_s: 2 });
    expect(outcome).toMatchObject({ status: 'stale', version: '1', wanted_version: '2', refreshing: true });
    expect(outcome.warning?.code).toBe('deadline_exceeded');
    expect(ms).toBeLessThan(atMost(2_000 + GRACE_MS));
    release();
    const found = await until(5_000, async () => {
      const next = (await reload(sidecar.url, 'models:/late/Production', { deadline_s: 0.3 })).outcome;
      return next.status === 'unchanged' ? next : null;
    });
    expect(found.version).toBe('2');
    expect(upstream.counts('file').get(`${newer.root}/MLmodel`)).toBe(1);
  });

  test('a newer version is waited for beyond refresh_wait_s', async () => {
    add('patience', 1);
    await loaded('patience');
    const newer = add('patience', 2);
    await upstream.setFault(
      'file',
      { kind: 'delay', ms: 1_200 },
      { when: r => r.path.startsWith(newer.root) },
    );
    const { outcome } = await reload(sidecar.url, 'models:/patience/Production', { refresh_wait_s: 1 });
    expect(outcome).toMatchObject({ status: 'loaded', version: '2', wanted_version: null });
  });
});
