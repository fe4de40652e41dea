import { execFile, spawnSync } from 'node:child_process';
import { chmod, cp, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { expect, onTestFinished, test } from 'vitest';
import { ScriptedMlflow } from '../support/scripted-mlflow.ts';

const ROOT = resolve(import.meta.dirname, '../..');
/** As which the pods' containers run. */
const SIDECAR = { uid: 65532, gid: 0 };
const AIRFLOW = { uid: 50000, gid: 0 };
const isAble = process.getuid?.() === 0 && spawnSync(process.execPath, ['-e', ''], SIDECAR).status === 0;
const execute = promisify(execFile);

test.skipIf(!isAble)(
  'on a new claim with fsGroup 0 the sidecar’s user writes, and Airflow’s reads what is for it',
  async () => {
    const mlflow = await ScriptedMlflow.start();
    onTestFinished(() => mlflow.close());
    mlflow.addVersion({ name: 'a', stage: 'Production', files: { MLmodel: Buffer.from('flavors: {}\n') } });
    const dir = await mkdtemp(join(tmpdir(), 'sidecar-claim-'));
    onTestFinished(() => rm(dir, { recursive: true, force: true }));
    await chmod(dir, 0o755);
    // The repository may be where others may not look.
    for (const part of ['dist', 'package.json'])
      await cp(join(ROOT, part), join(dir, part), { recursive: true });
    // As kubelet leaves it: it stays root's.
    const claim = join(dir, 'claim');
    await mkdir(claim);
    await chmod(claim, 0o2775);
    const fetching = ['fetch', 'models:/a/Production', '--once', `--to=${claim}/model`];
    // The home of a user whom the image does not know.
    const env = { ...mlflow.env, SIDECAR_CACHE_DIR: claim, HOME: '/' };
    await execute(process.execPath, [join(dir, 'dist', 'main.js'), ...fetching], { ...SIDECAR, env });

    const can = (command: string, ...args: readonly string[]) =>
      spawnSync(command, args, { ...AIRFLOW, cwd: claim }).status === 0;
    const snapshot = 'v1/models/a/Production';
    expect(can('cat', `${snapshot}/MLmodel`)).toBe(true);
    expect(can('ls', 'v1/state')).toBe(false);
    expect(can('sh', '-c', `echo >> ${snapshot}/MLmodel`)).toBe(false);
    expect(can('touch', `${snapshot}/another`)).toBe(false);
  },
);
