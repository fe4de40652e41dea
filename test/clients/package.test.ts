import { execFile } from 'node:child_process';
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, onTestFinished, test } from 'vitest';
import { CLIENT, PYTHON } from './python.ts';

const run = promisify(execFile);
const bin = (path: string) => fileURLToPath(new URL(`../../.cache/venv/${path}`, import.meta.url));
const FILE = join(CLIENT, 'mlflow_sidecar.py');

async function temporary(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'sidecar-python-'));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

test('the types of the helper are right, as mypy reads them strictly', async () => {
  const cache = ['--cache-dir', await temporary()];
  const { stdout } = await run(bin('python-checks/bin/mypy'), ['--strict', ...cache, FILE]);
  expect(stdout).toMatch(/^Success: no issues found/);
});

test('the helper needs Python 3.9, and nothing newer', async () => {
  const { stdout } = await run(bin('python-checks/bin/vermin'), [
    '--no-tips',
    '--eval-annotations',
    '-t=3.9-',
    FILE,
  ]);
  expect(stdout).toContain('Minimum required versions: 3.9');
});

test('pip installs the helper', async () => {
  const [source, target] = [await temporary(), await temporary()];
  await cp(CLIENT, source, { recursive: true });
  await run(bin('uv/bin/uv'), ['pip', 'install', '--quiet', '--python', PYTHON, '--target', target, source]);
  const program =
    'import importlib.metadata as m, mlflow_sidecar as s; print(s.__file__, m.requires("mlflow-sidecar"))';
  const { stdout } = await run(PYTHON, ['-c', program], { env: { PYTHONPATH: target } });
  expect(stdout.trim()).toBe(`${join(target, 'mlflow_sidecar.py')} None`);
});
