import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { closeSync, existsSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { z } from 'zod';
import { atExit } from './at-exit.ts';
import { freePort } from './free-port.ts';
import { BYTECODE } from './python-bytecode.ts';

export const MLFLOW_VERSIONS = ['3.17.2', '2.22.5'] as const;
export type MlflowVersion = (typeof MLFLOW_VERSIONS)[number];

/** It takes 5 s on a quiet machine, and was seen to take 35 s on a busy one. */
const START_LIMIT_MS = 120_000;
const PYTHON_LIMIT_MS = 120_000;

export interface MlflowServer {
  readonly url: string;
  /** The leader of its process group. */
  readonly pid: number;
  /** Ends every process of the server, frozen or not, and removes its directory. */
  readonly stop: () => void;
}

/**
 * Starts `mlflow server` with an empty database and artifact directory on a free port, and waits until `/health` says OK.
 * It leads a process group of its own, and ends with this process at the latest.
 * @param workers its processes; MLflow's own default is 4
 * @throws Error with the end of its log, where it ends or is not healthy within 120 s
 */
export async function startMlflow(version: MlflowVersion, workers = 1): Promise<MlflowServer> {
  const port = await freePort();
  const dir = mkdtempSync(join(tmpdir(), `mlflow-${version}-`));
  const child = spawnServer(version, port, dir, workers);
  const pid = child.pid ?? 0;
  const stop = atExit(() => {
    signalGroup(pid, 'SIGKILL');
    rmSync(dir, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 });
  });
  const url = `http://127.0.0.1:${port}`;
  try {
    await healthy(url, child);
  } catch (error) {
    const log = await readFile(join(dir, 'server.log'), 'utf8');
    stop();
    throw new Error(`MLflow ${version} did not start:\n${log.slice(-4_000)}`, { cause: error });
  }
  return { url, pid, stop };
}

function spawnServer(version: MlflowVersion, port: number, dir: string, workers: number): ChildProcess {
  const log = openSync(join(dir, 'server.log'), 'w');
  const options = {
    host: '127.0.0.1',
    port: String(port),
    'artifacts-destination': join(dir, 'artifacts'),
    'backend-store-uri': `sqlite:///${join(dir, 'mlflow.db')}`,
    workers: String(workers),
  };
  const args = Object.entries(options).flatMap(([name, value]) => [`--${name}`, value]);
  const child = spawn(python(version), ['-m', 'mlflow', 'server', '--serve-artifacts', ...args], {
    cwd: dir,
    env: cleanEnv(),
    stdio: ['ignore', log, log],
    detached: true,
  });
  closeSync(log);
  return child;
}

async function healthy(url: string, child: ChildProcess): Promise<void> {
  const limit = AbortSignal.timeout(START_LIMIT_MS);
  while (child.exitCode === null && child.signalCode === null) {
    limit.throwIfAborted();
    const response = await fetch(`${url}/health`, { signal: AbortSignal.timeout(2_000) }).catch(() => null);
    if (response !== null && (await response.text()) === 'OK') return;
    await delay(200);
  }
  throw new Error('It ended.');
}

/**
 * Does `work` while every process of the server stands still: connections are accepted, and nothing is answered.
 * @param pid the leader of the server's process group
 */
export async function whileFrozen<T>(pid: number, work: () => Promise<T>): Promise<T> {
  const thaw = atExit(() => signalGroup(pid, 'SIGCONT'));
  signalGroup(pid, 'SIGSTOP');
  try {
    return await work();
  } finally {
    thaw();
  }
}

function signalGroup(leader: number, signal: NodeJS.Signals): void {
  if (leader === 0) return;
  try {
    process.kill(-leader, signal);
  } catch {
    // The group has ended.
  }
}

export const RegisteredSchema = z.object({
  name: z.string(),
  version: z.string(),
  run_id: z.string(),
  /** MLflow 3 only. */
  model_id: z.string().nullable(),
});
export type Registered = z.infer<typeof RegisteredSchema>;

/**
 * Trains a small text classifier for each name and registers it as the next version of that model.
 * @param names become the one version in Production, and `@champion`
 * @param unstaged get neither stage nor alias
 */
export async function train(
  version: MlflowVersion,
  url: string,
  names: readonly string[],
  unstaged: readonly string[] = [],
): Promise<readonly Registered[]> {
  const args = [url, ...names, ...unstaged.map(name => `--unstaged=${name}`)];
  return parseLines(RegisteredSchema, await runPython(version, 'train.py', args));
}

const LoadedSchema = z.object({ predictions: z.array(z.string()), load_s: z.number(), mlflow: z.string() });
export type Loaded = z.infer<typeof LoadedSchema>;

/** Loads each model directory with `mlflow.pyfunc.load_model` in one process that cannot open a connection, and predicts. */
export async function loadOffline(
  version: MlflowVersion,
  paths: readonly string[],
): Promise<readonly Loaded[]> {
  return parseLines(LoadedSchema, await runPython(version, 'load.py', paths));
}

function parseLines<T>(schema: z.ZodType<T>, output: string): readonly T[] {
  const lines = output.trim().split('\n');
  return lines.map(line => schema.parse(JSON.parse(line)));
}

async function runPython(version: MlflowVersion, script: string, args: readonly string[]): Promise<string> {
  const file = fileURLToPath(new URL(`python/${script}`, import.meta.url));
  const { stdout } = await promisify(execFile)(python(version), [file, ...args], {
    env: cleanEnv(),
    timeout: PYTHON_LIMIT_MS,
    killSignal: 'SIGKILL',
  });
  return stdout;
}

function python(version: MlflowVersion): string {
  const path = fileURLToPath(new URL(`../../.cache/venv/mlflow-${version}/bin/python`, import.meta.url));
  if (!existsSync(path)) throw new Error(`${path} is not there: "npm test" and "npm run demo" make it.`);
  return path;
}

/** The caller's environment without its own MLflow's settings. */
function cleanEnv(): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(
    ([name]) => !name.startsWith('MLFLOW_') && name !== 'PYTHONPATH' && name !== 'PYTHONDONTWRITEBYTECODE',
  );
  return {
    ...Object.fromEntries(kept),
    ...BYTECODE,
    // Ten more Python processes that would run jobs, of which there are none.
    MLFLOW_SERVER_ENABLE_JOB_EXECUTION: 'false',
    MLFLOW_DISABLE_TELEMETRY: 'true',
    GIT_PYTHON_REFRESH: 'quiet',
    NO_PROXY: '127.0.0.1',
  };
}
