import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, onTestFinished, test } from 'vitest';
import { ScriptedMlflow } from '../support/scripted-mlflow.ts';
import { startSidecar } from '../support/sidecar.ts';
import { modelFiles, reload } from './harness.ts';

const URI = 'models:/m/Production';
const JOB = '00000000-0000-0000-0000-000000000000';

/** What somebody may put where a record is expected. */
const OTHERS: Readonly<Record<string, (path: string) => Promise<unknown>>> = {
  pipe: path => promisify(execFile)('mkfifo', [path]),
  link: path => symlink('/dev/zero', path),
  directory: async path => {
    await mkdir(path);
    await writeFile(join(path, 'x'), 'x');
  },
};

test.each(Object.keys(OTHERS))('a %s in the place of each record holds nobody up', async kind => {
  const put = OTHERS[kind] ?? expect.fail();
  const upstream = await ScriptedMlflow.start();
  onTestFinished(() => upstream.close());
  upstream.addVersion({ name: 'm', stage: 'Production', files: modelFiles('m') });
  const cacheDir = await mkdtemp(join(tmpdir(), 'sidecar-foreign-'));
  onTestFinished(() => rm(cacheDir, { recursive: true, force: true }));
  const env = { ...upstream.env, SIDECAR_CACHE_DIR: cacheDir };
  const first = await startSidecar(env);
  const { url } = first;
  expect((await reload(url, URI)).outcome).toMatchObject({ status: 'loaded' });
  const load = `${url}/api/2.0/mlflow/model-versions/get?name=m&version=1`;
  expect((await fetch(load)).status).toBe(200);
  await first.stop();
  const root = join(cacheDir, 'v1');
  for (const dir of ['refs/m', 'state/manifests', 'state/answers', 'state/jobs', 'state/quarantine'])
    for (const name of await readdir(join(root, dir)).catch(() => [])) await replace(join(root, dir, name));
  await put(join(root, 'state/jobs', `${JOB}.json`));
  await put(join(root, 'state/quarantine', 'intent-x.json')).catch(() => undefined);
  await mkdir(join(root, 'tmp', 'left'), { recursive: true });
  await put(join(root, 'tmp', 'left', 'owner.json'));

  const second = await startSidecar(env, { probe: '/readyz' });
  onTestFinished(async () => void (await second.stop()));
  const again = await reload(second.url, URI, { deadline_s: 20 });
  expect(again.outcome).toMatchObject({ version: '1', warning: null });
  expect(['loaded', 'unchanged']).toContain(again.outcome.status);
  const job = await fetch(`${second.url}/v1/jobs/${JOB}`);
  expect(job.status).toBe(404);
  expect(await second.stop()).toBe(0);

  async function replace(path: string): Promise<void> {
    await rm(path, { recursive: true });
    await put(path);
  }
});
