import { execFile } from 'node:child_process';
import { mkdir, readdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { reload } from '../faults/harness.ts';
import { ScriptedMlflow } from '../support/scripted-mlflow.ts';
import { startSidecar } from '../support/sidecar.ts';
import { filesBelow, readWhole, type Shape } from './content.ts';
import { addVersion, makeCache, REF, removeCache } from './harness.ts';
import { Trouble } from './trouble.ts';

const SHAPE: Shape = { files: 2, bytes: 1024 };
const FOLD_CASE = new URL('../support/preload/fold-case.mjs', import.meta.url).href;
const CLIENT = fileURLToPath(new URL('../../clients/python', import.meta.url));
/** A port where nobody listens. */
const NOBODY = 'http://127.0.0.1:1';

let upstream: ScriptedMlflow;
beforeAll(async () => {
  upstream = await ScriptedMlflow.start();
});
afterAll(() => upstream.close());

async function cacheOf(more: Readonly<Record<string, string>>) {
  const cacheDir = await makeCache();
  onTestFinished(() => removeCache(cacheDir));
  const start = async () => {
    const sidecar = await startSidecar({ ...upstream.env, ...more, SIDECAR_CACHE_DIR: cacheDir });
    onTestFinished(async () => void (await sidecar.stop()));
    return sidecar;
  };
  return { cacheDir, start };
}

/** What the helper gives while the sidecar is down. */
async function pathFromHelper(uri: string, cacheDir: string): Promise<string> {
  const program = `import mlflow_sidecar; print(mlflow_sidecar.model_path(${JSON.stringify(uri)}, deadline_s=2))`;
  const env = {
    PATH: process.env['PATH'] ?? '',
    PYTHONPATH: CLIENT,
    SIDECAR_URL: NOBODY,
    SIDECAR_CACHE_DIR: cacheDir,
  };
  const { stdout } = await promisify(execFile)('python3', ['-c', program], { env });
  return stdout.trim();
}

test('without links of either kind versions are published by their records, and it is said once at the start', async () => {
  const trouble = await Trouble.make();
  const { cacheDir, start } = await cacheOf(trouble.env);
  const lacks = { match: /^(sym)?link /, nth: null, act: 'ENOTSUP' } as const;
  await trouble.plan(lacks);
  let sidecar = await start();
  const uri = `models:/plain/${REF}`;
  const first = addVersion(upstream, SHAPE, 'plain');
  const loaded = (await reload(sidecar.url, uri)).outcome;
  expect(loaded).toMatchObject({ status: 'loaded', version: first, ref_path: null, warning: null });
  expect((await reload(sidecar.url, uri)).outcome).toMatchObject({ status: 'unchanged', ref_path: null });
  const second = addVersion(upstream, SHAPE, 'plain');
  expect((await reload(sidecar.url, uri)).outcome).toMatchObject({ status: 'loaded', version: second });
  expect(await filesBelow(join(cacheDir, 'v1/models'))).toEqual([]);
  const said = sidecar
    .logs()
    .split('\n')
    .filter(line => line.includes('lacks'));
  expect(said).toHaveLength(1);
  expect(said[0]).toContain('hard links: each version takes its space twice');
  expect(said[0]).toContain('symbolic links: models/ stays empty and ref_path is null');

  await sidecar.stop();
  expect(await readWhole(await pathFromHelper(uri, cacheDir))).toBe(second);
  await upstream.setFault('registry', { kind: 'refused' });
  onTestFinished(() => upstream.clearFaults());
  sidecar = await start();
  const stale = (await reload(sidecar.url, uri, { deadline_s: 3, refresh_wait_s: 0.3 })).outcome;
  expect(stale).toMatchObject({ status: 'stale', version: second, ref_path: null });
  expect(await readWhole(stale.path ?? '')).toBe(second);
});

test('where the file system does not tell case, models whose names differ only in it have records of their own', async () => {
  const { cacheDir, start } = await cacheOf({ NODE_OPTIONS: `--import=${FOLD_CASE}` });
  let sidecar = await start();
  const names = ['churn', 'Churn', 'CHURN'];
  const paths = new Map<string, string | null>();
  for (const name of names) {
    addVersion(upstream, { ...SHAPE, bytes: 1024 + name.charCodeAt(0) + name.charCodeAt(1) }, name);
    const { outcome } = await reload(sidecar.url, `models:/${name}/${REF}`);
    expect(outcome).toMatchObject({ status: 'loaded', name });
    paths.set(name, outcome.path);
  }
  expect(new Set(paths.values()).size).toBe(names.length);
  expect(await readdir(join(cacheDir, 'v1/refs'))).toHaveLength(names.length);
  expect(sidecar.logs()).toContain('a difference between upper and lower case');
  await sidecar.stop();

  await upstream.setFault('registry', { kind: 'refused' });
  onTestFinished(() => upstream.clearFaults());
  sidecar = await start();
  for (const name of names) {
    const call = { deadline_s: 3, refresh_wait_s: 0.3 };
    const { outcome } = await reload(sidecar.url, `models:/${name}/${REF}`, call);
    expect(outcome).toMatchObject({ status: 'stale', name, path: paths.get(name) });
  }
});

test('the helper finds a record whose capital letters are encoded, where the plain name is another model’s', async () => {
  const { cacheDir, start } = await cacheOf({});
  const sidecar = await start();
  addVersion(upstream, SHAPE, 'Helped');
  const { outcome } = await reload(sidecar.url, `models:/Helped/${REF}`);
  await sidecar.stop();
  const refs = join(cacheDir, 'v1/refs');
  const record = await readFile(join(refs, 'Helped', `${REF}.json`), 'utf8');
  await mkdir(join(refs, '%48elped'));
  await rename(join(refs, 'Helped', `${REF}.json`), join(refs, '%48elped/%50roduction.json'));
  await writeFile(join(refs, 'Helped', `${REF}.json`), record.replace('models:/Helped', 'models:/helped'));
  expect(await pathFromHelper(`models:/Helped/${REF}`, cacheDir)).toBe(outcome.path);
});
