import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { atExit } from './at-exit.ts';
import { freePort } from './free-port.ts';
import { BYTECODE } from './python-bytecode.ts';

export type AirflowVersion = '3.3.2' | '2.11.2';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const EXAMPLES = join(ROOT, 'examples', 'airflow');

/** A run takes 10 s of processor time and what its tasks take; MLflow and another run are busy beside it. */
const LIMIT_MS = 180_000;
const START_LIMIT_MS = 60_000;

/** Runs the command `airflow` to its end; at the limit it is killed, with all that it started. */
export async function ended(version: AirflowVersion, args: readonly string[], env: NodeJS.ProcessEnv) {
  const { child, kill } = start(version, args, env);
  const timer = setTimeout(kill, LIMIT_MS);
  try {
    const exited = new Promise<number | null>((resolve, reject) => {
      child.once('exit', resolve).once('error', reject);
    });
    const [exitCode, out, err] = await Promise.all([exited, text(child.stdout), text(child.stderr)]);
    return { exitCode, log: out + err };
  } finally {
    clearTimeout(timer);
    kill();
  }
}

/** The part of Airflow 3's API server that tasks in processes of their own speak to. */
export async function startTaskApi(version: AirflowVersion, env: NodeJS.ProcessEnv) {
  const port = await freePort();
  const url = `http://127.0.0.1:${port}/execution/`;
  const shared = {
    AIRFLOW__CORE__EXECUTION_API_SERVER_URL: url,
    AIRFLOW__API_AUTH__JWT_SECRET: randomBytes(64).toString('hex'),
  };
  const args = [
    'api-server',
    '--apps',
    'execution',
    '--workers',
    '1',
    '--host',
    '127.0.0.1',
    '--port',
    String(port),
  ];
  const { child, kill } = start(version, args, { ...env, ...shared });
  const log = text(child.stderr);
  child.stdout.resume();
  const deadline = Date.now() + START_LIMIT_MS;
  while (!(await answers(url))) {
    if (child.exitCode !== null || Date.now() > deadline) {
      kill();
      throw new Error(`Airflow's API server did not start:\n${(await log).slice(-4_000)}`);
    }
    await delay(200);
  }
  return { env: shared, stop: kill };
}

async function answers(url: string): Promise<boolean> {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(1_000) });
    await response.body?.cancel();
    return true;
  } catch {
    return false;
  }
}

/** It leads a process group of its own, which ends with `kill`, with this process at the latest. */
function start(version: AirflowVersion, args: readonly string[], env: NodeJS.ProcessEnv) {
  const program = join(ROOT, '.cache', 'venv', `airflow-${version}`, 'bin', 'airflow');
  if (!existsSync(program)) throw new Error(`${program} is not there: "npm test" makes it.`);
  const child = spawn(program, args, {
    env: { ...environment(), ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  const { pid } = child;
  const kill = atExit(() => {
    try {
      if (pid !== undefined) process.kill(-pid, 'SIGKILL');
    } catch {
      // The group has ended.
    }
  });
  return { child, kill };
}

function environment(): NodeJS.ProcessEnv {
  return {
    PATH: process.env['PATH'],
    HOME: process.env['HOME'],
    AIRFLOW__CORE__DAGS_FOLDER: join(EXAMPLES, 'dags'),
    AIRFLOW__CORE__PLUGINS_FOLDER: join(ROOT, 'clients', 'python'),
    AIRFLOW__CORE__LOAD_EXAMPLES: 'false',
    ...BYTECODE,
    PYTHONPATH: join(ROOT, 'test', 'support', 'python-startup'),
    // A thousand, of what Airflow and MLflow find deprecated in one another.
    PYTHONWARNINGS: 'ignore',
    MLFLOW_DISABLE_TELEMETRY: 'true',
    GIT_PYTHON_REFRESH: 'quiet',
    NO_PROXY: '127.0.0.1',
  };
}
