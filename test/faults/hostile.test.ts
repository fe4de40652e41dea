import { mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type ListedEntry, ScriptedMlflow } from '../support/scripted-mlflow.ts';
import { type RunningSidecar, startSidecar } from '../support/sidecar.ts';
import { modelFiles, reload, wrongFiles } from './harness.ts';

let upstream: ScriptedMlflow;
let sidecar: RunningSidecar;
let roots: string;

beforeAll(async () => {
  roots = await mkdtemp(join(tmpdir(), 'sidecar-roots-'));
  await mkdir(join(roots, 'allowed'));
  await mkdir(join(roots, 'forbidden'));
  upstream = await ScriptedMlflow.start();
  sidecar = await startSidecar({ ...upstream.env, SIDECAR_FILE_ROOTS: join(roots, 'allowed') });
});

afterAll(async () => {
  await sidecar.stop();
  await upstream.close();
  await rm(roots, { recursive: true, force: true });
});

const MLMODEL: ListedEntry = { path: 'MLmodel', is_dir: false, file_size: 4 };

function file(path: string): ListedEntry {
  return { path, is_dir: false, file_size: 4 };
}

const HOSTILE: readonly (readonly [string, readonly ListedEntry[]])[] = [
  ['an absolute path', [MLMODEL, file('/etc/cron.d/evil')]],
  ['a path to the parent', [MLMODEL, file('../evil')]],
  ['the parent as a directory', [MLMODEL, { path: '..', is_dir: true }]],
  ['the directory itself', [MLMODEL, { path: '.', is_dir: true }]],
  ['a parent inside', [MLMODEL, file('data/../../evil')]],
  ['a path of two names', [MLMODEL, file('data/evil')]],
  ['a NUL', [MLMODEL, file('evil\0.txt')]],
  ['an empty name', [MLMODEL, file('')]],
  ['a name that is a file and a directory', [MLMODEL, file('data'), { path: 'data', is_dir: true }]],
  ['the same name twice', [MLMODEL, file('data'), file('data')]],
  ['a name longer than a file system takes', [MLMODEL, file('n'.repeat(300))]],
];

describe('a listing with', () => {
  test.each(HOSTILE)('%s is unsafe_path, and nothing of it is fetched', async (what, listing) => {
    const made = upstream.addVersion({
      name: what,
      stage: 'Production',
      files: { MLmodel: 'a: 1' },
      listing: { '': listing },
    });
    const { outcome } = await reload(sidecar.url, `models:/${what}/Production`, { deadline_s: 10 });
    expect(outcome).toMatchObject({ status: 'failed', path: null });
    expect(outcome.warning?.code).toBe('unsafe_path');
    expect([...upstream.counts('file').keys()].filter(path => path.startsWith(made.root))).toEqual([]);
  });

  test('a directory below every directory is refused', async () => {
    const deep: Record<string, readonly ListedEntry[]> = { '': [MLMODEL, { path: 'd', is_dir: true }] };
    for (let depth = 1; depth < 1_500; depth++)
      deep[Array(depth).fill('d').join('/')] = [{ path: 'd', is_dir: true }];
    upstream.addVersion({ name: 'deep', stage: 'Production', files: { MLmodel: 'a: 1' }, listing: deep });
    const { outcome } = await reload(sidecar.url, 'models:/deep/Production', { deadline_s: 15 });
    expect(outcome.warning?.code).toBe('unsafe_path');
  });

  test.each([
    ['nothing in it', {}],
    ['no MLmodel', { 'model.pkl': 'x' }],
    ['its MLmodel one level down', { 'model/MLmodel': 'x' }],
  ])('%s is artifact_missing', async (what, files) => {
    upstream.addVersion({ name: what, stage: 'Production', files });
    const { outcome } = await reload(sidecar.url, `models:/${what}/Production`, { deadline_s: 10 });
    expect(outcome).toMatchObject({ status: 'failed', warning: { code: 'artifact_missing' } });
  });
});

describe('a version that was loaded before', () => {
  test('stays when its successor is hostile', async () => {
    upstream.addVersion({ name: 'turned', stage: 'Production', files: modelFiles('turned-1') });
    const before = (await reload(sidecar.url, 'models:/turned/Production')).outcome;
    upstream.addVersion({
      name: 'turned',
      stage: 'Production',
      files: { MLmodel: 'a: 1' },
      listing: { '': [MLMODEL, file('../../x')] },
    });
    const { outcome } = await reload(sidecar.url, 'models:/turned/Production');
    expect(outcome).toMatchObject({ status: 'stale', version: '1', wanted_version: '2', path: before.path });
    expect(outcome.warning?.code).toBe('unsafe_path');
    expect(await wrongFiles(outcome.path, modelFiles('turned-1'))).toEqual([]);
  });
});

describe('a source', () => {
  test.each(['s3://bucket/model', 'gs://bucket/model', 'ftp://host/model', 'dbfs:/model', 'C:\\model'])(
    '%s is unsupported_scheme',
    async downloadUri => {
      const name = `scheme of ${downloadUri.replace(/\W/g, ' ')}`;
      upstream.addVersion({ name, stage: 'Production', files: {}, downloadUri });
      const { outcome } = await reload(sidecar.url, `models:/${name}/Production`, { deadline_s: 5 });
      expect(outcome).toMatchObject({
        status: 'failed',
        version: null,
        warning: { code: 'unsupported_scheme' },
      });
    },
  );

  test('file: under SIDECAR_FILE_ROOTS is loaded', async () => {
    const dir = await modelDir('allowed', 'inside');
    const outcome = await reloadFrom('file inside', pathToFileURL(dir).href);
    expect(outcome).toMatchObject({ status: 'loaded', files: 3 });
    expect(await wrongFiles(outcome.path, modelFiles('inside'))).toEqual([]);
  });

  test('file: outside SIDECAR_FILE_ROOTS is refused', async () => {
    const dir = await modelDir('forbidden', 'outside');
    const outcome = await reloadFrom('file outside', pathToFileURL(dir).href);
    expect(outcome).toMatchObject({ status: 'failed', path: null, warning: { code: 'unsafe_path' } });
    expect(outcome.warning?.message).not.toContain('outside-weights');
  });

  test('file: that climbs out of SIDECAR_FILE_ROOTS is refused', async () => {
    const dir = await modelDir('forbidden', 'climbing');
    const outcome = await reloadFrom(
      'file climbing',
      `file://${join(roots, 'allowed')}/../forbidden/${dir.split('/').at(-1)}`,
    );
    expect(outcome).toMatchObject({ status: 'failed', path: null, warning: { code: 'unsafe_path' } });
  });

  test('file: under SIDECAR_FILE_ROOTS with a link that leads out of it is refused', async () => {
    const dir = await modelDir('allowed', 'linked');
    await symlink('/etc/passwd', join(dir, 'data', 'passwd'));
    const outcome = await reloadFrom('file link', pathToFileURL(dir).href);
    expect(outcome).toMatchObject({ status: 'failed', path: null, warning: { code: 'unsafe_path' } });
  });

  test('file: whose directory is itself a link out of SIDECAR_FILE_ROOTS is refused', async () => {
    const target = await modelDir('forbidden', 'target');
    await symlink(target, join(roots, 'allowed', 'alias'));
    const outcome = await reloadFrom('file alias', pathToFileURL(join(roots, 'allowed', 'alias')).href);
    expect(outcome).toMatchObject({ status: 'failed', path: null, warning: { code: 'unsafe_path' } });
  });

  test('a version that is not ready is version_not_ready', async () => {
    upstream.addVersion({
      name: 'pending',
      stage: 'Production',
      files: modelFiles('p'),
      status: 'PENDING_REGISTRATION',
    });
    const { outcome } = await reload(sidecar.url, 'models:/pending/Production', { deadline_s: 5 });
    expect(outcome).toMatchObject({ status: 'failed', warning: { code: 'version_not_ready' } });
  });

  test('nothing that was refused is left in the cache', async () => {
    const snapshots = await readdir(join(sidecar.cacheDir, 'v1', 'snapshots'));
    for (const snapshot of snapshots) {
      const names = await readdir(join(sidecar.cacheDir, 'v1', 'snapshots', snapshot));
      expect(names.toSorted()).toEqual(['MLmodel', 'data', 'model.pkl']);
    }
  });
});

async function modelDir(under: 'allowed' | 'forbidden', label: string): Promise<string> {
  const dir = join(roots, under, label);
  await mkdir(join(dir, 'data'), { recursive: true });
  for (const [path, content] of Object.entries(modelFiles(label))) await writeFile(join(dir, path), content);
  return dir;
}

async function reloadFrom(name: string, downloadUri: string) {
  upstream.addVersion({ name, stage: 'Production', files: {}, downloadUri });
  return (await reload(sidecar.url, `models:/${name}/Production`, { deadline_s: 5 })).outcome;
}
