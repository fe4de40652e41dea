import { chmodSync, readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { ScriptedMlflow } from '../support/scripted-mlflow.ts';
import { directory, run } from './support.ts';

const URI = 'models:/a/Production';

/** A cache into which one model was fetched. */
async function filled() {
  const upstream = await ScriptedMlflow.start();
  onTestFinished(() => upstream.close());
  upstream.addVersion({
    name: 'a',
    stage: 'Production',
    files: { MLmodel: 'flavors: {}\n', 'model.pkl': 'bytes' },
  });
  const cache = directory();
  const env = { ...upstream.env, SIDECAR_CACHE_DIR: cache };
  const fetchTo = (to: string) => run(['fetch', URI, '--to', to], env);
  expect((await fetchTo(join(directory(), 'model'))).code).toBe(0);
  const [snapshot = ''] = readdirSync(join(cache, 'v1/snapshots'));
  return { cache, env, snapshot, fetchTo, file: join(cache, 'v1/snapshots', snapshot, 'model.pkl') };
}

test('a good cache ends with 0 and says what was read', async () => {
  const { cache, env } = await filled();
  const { code, stdout, stderr } = await run(['verify'], env);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(stdout).toMatch(
    new RegExp(
      `^Verifying ${cache}/v1: every snapshot .*\\n✅ All is well: 2 files, 17 bytes in \\d+\\.\\d s\\n$`,
    ),
  );
});

test('damage ends with 1, is named with its version and its URIs, and is fetched again by the next reload', async () => {
  const { cache, env, snapshot, fetchTo, file } = await filled();
  chmodSync(file, 0o644);
  truncateSync(file, 2);
  const { code, stdout } = await run(['verify'], env);
  expect(code).toBe(1);
  expect(stdout.split('\n').slice(1)).toEqual([
    `❌ snapshots/${snapshot}/model.pkl has 2 bytes instead of 5`,
    `   Version: ${snapshot}`,
    `   Model URIs: ${URI}`,
    expect.stringMatching(
      /^❌ Damaged: 1; read: \d+ files, \d+ bytes in .* It was taken away; the next reload fetches .*$/,
    ),
    '',
  ]);
  expect(readdirSync(join(cache, 'v1/snapshots'))).toEqual([]);
  expect(readdirSync(join(cache, 'v1/tmp'))).toEqual([]);
  expect((await fetchTo(join(directory(), 'again'))).code).toBe(0);
  expect(await run(['verify'], env)).toMatchObject({ code: 0 });
});

test('a version with a file too many is made anew, and its ref goes on pointing to it', async () => {
  const { cache, env, snapshot } = await filled();
  writeFileSync(join(cache, 'v1/snapshots', snapshot, 'extra'), 'x');
  const { code, stdout } = await run(['verify'], env);
  expect({ code, stdout }).toEqual({
    code: 1,
    stdout: expect.stringContaining(`❌ snapshots/${snapshot}/extra does not belong there\n`),
  });
  expect(readdirSync(join(cache, 'v1/models/a/Production')).toSorted()).toEqual(['MLmodel', 'model.pkl']);
  expect(await run(['verify'], env)).toMatchObject({ code: 0 });
});

test('damage that cannot be moved is told all the same', async () => {
  const { cache, env, file } = await filled();
  chmodSync(file, 0o644);
  truncateSync(file, 2);
  rmSync(join(cache, 'v1/tmp'), { recursive: true });
  writeFileSync(join(cache, 'v1/tmp'), 'in the way');
  const { code, stdout } = await run(['verify'], env);
  expect(code).toBe(1);
  expect(stdout).toContain('⚠️ It could not be moved to the quarantine: ');
  expect(stdout).toMatch(/Not all of it could be taken away\.\n$/);
  expect(readdirSync(join(cache, 'v1/snapshots'))).toHaveLength(1);
});

test('where there is no cache it ends with 2', async () => {
  const { env } = await filled();
  const dir = directory();
  const { code, stderr } = await run(['verify', '--cache-dir', dir], env);
  expect({ code, stderr }).toEqual({ code: 2, stderr: `mlflow-sidecar: there is no cache in ${dir}.\n` });
});

test('it needs no MLflow, and whatever is wrong with other options is none of its business', async () => {
  const { cache } = await filled();
  expect(await run(['verify', '--cache-dir', cache], { SIDECAR_PORT: 'none' })).toMatchObject({ code: 0 });
});
