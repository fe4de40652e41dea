import { execFile, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { atExit } from '../support/at-exit.ts';
import type { Image } from './build-image.ts';
import { inside } from './sandbox.ts';

const execute = promisify(execFile);

/** Where the sidecar keeps its models in the image. */
export const CACHE = '/var/cache/mlflow-sidecar';

type Env = Readonly<Record<string, string>>;

export interface Container {
  /** What is mounted on the cache. */
  readonly volume: string;
  readonly logs: () => string;
  /** The exit code once it has ended. */
  readonly exited: Promise<number | null>;
  /** The number that its first process has for itself. */
  readonly ownPid: () => number;
  /** Sends it to its first process, unless that has ended; the container ends with this process at the latest. */
  readonly signal: (name: NodeJS.Signals) => void;
  /** Runs a command of the image beside it, and gives its exit code and what it printed. */
  readonly exec: (command: readonly string[]) => Promise<{ readonly code: number; readonly stdout: string }>;
}

/** Starts the image on a read-only root, with a volume on the cache that takes the image's owner and content, as a new one does. */
export async function startContainer(image: Image, user: string, env: Env): Promise<Container> {
  const volume = await mkdtemp(join(tmpdir(), 'sidecar-volume-'));
  await execute('cp', ['-a', '-T', join(image.root, CACHE), volume]);
  const how = {
    user,
    workdir: image.workdir,
    env: { ...image.env, ...env },
    writable: [{ source: volume, target: CACHE }],
  };
  const [command = '', ...args] = await inside(image.root, [...image.entrypoint, ...image.cmd], how);
  const child = spawn(command, args, { env: process.env, stdio: ['ignore', 'pipe', 'pipe'] });
  const chunks: string[] = [];
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (chunk: string) => chunks.push(chunk));
  }
  const exited = new Promise<number | null>((done, fail) => child.once('close', done).once('error', fail));
  const signal = (name: NodeJS.Signals) => {
    const first = firstProcess(child.pid);
    if (first !== null) process.kill(first.pid, name);
  };
  const cleanUp = atExit(() => signal('SIGKILL'));
  child.once('close', cleanUp);
  return {
    volume,
    logs: () => chunks.join(''),
    exited,
    ownPid: () => firstProcess(child.pid)?.ownPid ?? 0,
    signal,
    exec: async words => await executed(await inside(image.root, words, how)),
  };
}

/** The only child of `unshare`; null once it has ended. */
function firstProcess(parent: number | undefined): { readonly pid: number; readonly ownPid: number } | null {
  try {
    const pid = Number(readFileSync(`/proc/${parent}/task/${parent}/children`, 'utf8'));
    const numbers = /^NSpid:.*\s(?<own>\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
    return { pid, ownPid: Number(numbers?.groups?.['own']) };
  } catch {
    return null;
  }
}

async function executed([command = '', ...args]: readonly string[]) {
  try {
    return { code: 0, stdout: (await execute(command, args)).stdout };
  } catch (error) {
    if (error instanceof Error && 'code' in error && typeof error.code === 'number') {
      return { code: error.code, stdout: 'stdout' in error ? String(error.stdout) : '' };
    }
    throw error;
  }
}
