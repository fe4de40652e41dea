import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, rmSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { atExit } from './at-exit.ts';
import { atMost } from './limits.ts';

const MAIN = fileURLToPath(new URL('../../dist/main.js', import.meta.url));

/** Of a start that takes half a second: what it says is shown instead of a test that hangs. */
const START_LIMIT_MS = 60_000;
/** Short, since starts are measured with it. */
const POLL_MS = 5;
/** SIGTERM is promised to end it within 5 s; what takes longer is killed, and shows as a null exit code. */
const STOP_LIMIT_MS = atMost(5_000) + 5_000;

export interface RunningSidecar {
  readonly url: string;
  readonly pid: number;
  readonly cacheDir: string;
  /** Both output streams so far. */
  logs(): string;
  /** The exit code once it has ended, however that came about; null after a signal. */
  readonly exited: Promise<number | null>;
  /** The signal that ended it; null where it ended by itself. */
  readonly signal: Promise<NodeJS.Signals | null>;
  /** Ends it, SIGTERM first. A cache directory that was made here is removed. Safe to call again. */
  stop(): Promise<number | null>;
}

interface StartOptions {
  /** A command that starts what follows it in its own place. */
  readonly via?: readonly string[];
  /** What has to answer 200. */
  readonly probe?: '/healthz' | '/readyz';
}

/**
 * Starts the built sidecar as a process of its own and waits until the probe answers 200.
 * Nothing of this process's environment reaches it but PATH, HOME and TMPDIR. Unless `env` says otherwise it listens on a
 * free port with a new, empty cache.
 * @throws Error with the logs, where it ends or does not answer within 60 s
 */
export async function startSidecar(
  env: Readonly<Record<string, string>> = {},
  { via = [], probe = '/healthz' }: StartOptions = {},
): Promise<RunningSidecar> {
  if (!existsSync(MAIN)) throw new Error(`${MAIN} is not there: run "npm run build" first.`);
  const ownCache =
    env['SIDECAR_CACHE_DIR'] === undefined ? await mkdtemp(join(tmpdir(), 'sidecar-cache-')) : null;
  const cacheDir = env['SIDECAR_CACHE_DIR'] ?? ownCache ?? '';
  const [command, ...args] = [...via, process.execPath, MAIN, 'serve'];
  const child = spawn(command, args, {
    env: { ...inherited(), SIDECAR_PORT: '0', ...env, SIDECAR_CACHE_DIR: cacheDir },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const sidecar = handle(child, cacheDir, ownCache);
  try {
    return { ...sidecar, url: await healthyUrl(sidecar, probe) };
  } catch (error) {
    await sidecar.stop();
    throw error;
  }
}

type Started = Omit<RunningSidecar, 'url'>;

function handle(child: ChildProcess, cacheDir: string, ownCache: string | null): Started {
  const chunks: string[] = [];
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding('utf8').on('data', (chunk: string) => chunks.push(chunk));
  }
  const exited = new Promise<number | null>((resolve, reject) => {
    child.once('close', resolve).once('error', reject);
  });
  const signal = new Promise<NodeJS.Signals | null>(resolve => {
    child.once('close', (_, name) => resolve(name));
  });
  const cleanUp = atExit(() => {
    child.kill('SIGKILL');
    if (ownCache !== null) rmSync(ownCache, { recursive: true, force: true });
  });
  const stop = async () => {
    child.kill('SIGTERM');
    const timer = setTimeout(() => child.kill('SIGKILL'), STOP_LIMIT_MS);
    try {
      return await exited;
    } finally {
      clearTimeout(timer);
      cleanUp();
    }
  };
  return { pid: child.pid ?? 0, cacheDir, logs: () => chunks.join(''), exited, signal, stop };
}

/** Where it says that it listens, once it answers there. */
async function healthyUrl(sidecar: Started, probe: string): Promise<string> {
  const ended = sidecar.exited.then(code => new Error(`It ended with exit code ${code}`));
  const deadline = Date.now() + START_LIMIT_MS;
  while (Date.now() < deadline) {
    const url = /"url":"(http:[^"]+)"/.exec(sidecar.logs())?.[1];
    const answer = await Promise.race([ended, url === undefined ? false : answers(url + probe)]);
    if (answer instanceof Error)
      throw new Error(`${answer.message} before it was healthy:\n${sidecar.logs()}`);
    if (answer && url !== undefined) return url;
    await delay(POLL_MS);
  }
  throw new Error(`It was not healthy after ${START_LIMIT_MS / 1000} s:\n${sidecar.logs()}`);
}

async function answers(url: string): Promise<boolean> {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(5_000) });
    await response.body?.cancel();
    return response.status === 200;
  } catch {
    return false;
  }
}

function inherited(): Record<string, string> {
  const kept = ['PATH', 'HOME', 'TMPDIR'].map(name => [name, process.env[name]]);
  return Object.fromEntries(kept.filter(([, value]) => value !== undefined));
}
