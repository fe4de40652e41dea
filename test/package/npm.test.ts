import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { packageVersion } from '../../src/config/version.ts';
import { until } from '../faults/harness.ts';
import { atMost } from '../support/limits.ts';
import { type Packed, pack } from './packed.ts';

const execute = promisify(execFile);
const PACK_LIMIT_MS = 180_000;
const STOP_LIMIT_MS = 5_000;
/** What the tree of an installed package may take. */
const TREE_LIMIT_BYTES = 40e6;
const MLFLOW = { MLFLOW_TRACKING_URI: 'http://127.0.0.1:9' };

let dir: string;
let packed: Packed;
/** Where it is installed, as by somebody who has nothing but the tarball. */
let fresh: string;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'sidecar-npm-'));
  packed = await pack(dir);
  fresh = join(dir, 'fresh');
  await mkdir(fresh);
  await writeFile(join(fresh, 'package.json'), '{"private":true}\n');
  // It needs nothing else, so that it needs no registry.
  await execute('npm', ['install', '--offline', '--no-audit', '--no-fund', packed.tarball], { cwd: fresh });
}, PACK_LIMIT_MS);
afterAll(() => rm(dir, { recursive: true, force: true }));

function npx(args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  return execute('npx', ['--offline', 'mlflow-sidecar', ...args], { cwd: fresh, env: environment(env) });
}

function environment(env: Readonly<Record<string, string>>): Record<string, string> {
  return { PATH: process.env['PATH'] ?? '', HOME: dir, ...env };
}

test('the package holds what runs, the documentation, the helper and the examples, and nothing else', () => {
  const places = packed.files.map(file =>
    file.replace(/^(dist\/chunks|docs|clients\/python|examples\/\w+)\/.*$/, '$1/'),
  );
  expect([...new Set(places)].toSorted()).toEqual([
    ...['CHANGELOG.md', 'LICENSE', 'README.md', 'clients/python/'],
    ...['dist/THIRD_PARTY_LICENSES.txt', 'dist/chunks/', 'dist/main.js', 'dist/sbom.cdx.json'],
    ...['docs/', 'examples/airflow/', 'examples/inference/', 'package.json'],
  ]);
  expect(packed.files).toEqual(
    expect.arrayContaining([
      'clients/python/mlflow_sidecar.py',
      'clients/python/pyproject.toml',
      'examples/airflow/dags/use_model.py',
    ]),
  );
  const chunks = packed.files.filter(file => file.startsWith('dist/chunks/'));
  expect(chunks.filter(file => !file.endsWith('.js'))).toEqual([]);
});

test('installed, it is alone, and small', async () => {
  const tree = join(fresh, 'node_modules');
  const names = await readdir(tree, { recursive: true });
  expect((await readdir(tree)).filter(name => !name.startsWith('.'))).toEqual(['mlflow-sidecar']);
  expect(names).not.toContain('mlflow-sidecar/node_modules');
  const sizes = await Promise.all(names.map(async name => (await stat(join(tree, name))).size));
  expect(sizes.reduce((sum, size) => sum + size, 0)).toBeLessThan(TREE_LIMIT_BYTES);
});

test('npx says its version, and checks a configuration', async () => {
  expect((await npx(['--version'])).stdout).toBe(`${packageVersion()}\n`);
  expect((await npx(['serve', '--check'], MLFLOW)).stdout).toBe('The configuration is right.\n');
  await expect(npx(['serve', '--check'])).rejects.toMatchObject({
    code: 2,
    stderr: expect.stringContaining('MLFLOW_TRACKING_URI'),
  });
});

test('npx serves until the signal that a terminal or a supervisor sends to all of its processes', async () => {
  const env = environment({ ...MLFLOW, SIDECAR_PORT: '0', SIDECAR_CACHE_DIR: join(dir, 'cache') });
  const child = spawn('npx', ['--offline', 'mlflow-sidecar', 'serve'], {
    cwd: fresh,
    env,
    stdio: ['ignore', 'pipe', 'ignore'],
    detached: true,
  });
  try {
    let log = '';
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      log += chunk;
    });
    const url = await until(10_000, async () => /"url":"([^"]+)"/.exec(log)?.[1] ?? null);
    expect((await fetch(`${url}/readyz`)).status).toBe(200);
    signalGroup(child.pid, 'SIGTERM');
    await once(child.stdout, 'end', { signal: AbortSignal.timeout(atMost(STOP_LIMIT_MS)) });
    expect(log).toContain('"Stopped."');
  } finally {
    signalGroup(child.pid, 'SIGKILL');
  }
});

function signalGroup(leader: number | undefined, name: NodeJS.Signals): void {
  try {
    if (leader !== undefined) process.kill(-leader, name);
  } catch {
    // Everything has ended.
  }
}
