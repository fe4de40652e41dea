import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text as readText } from 'node:stream/consumers';
import { ScriptedMlflow } from '../support/scripted-mlflow.ts';
import { type RunningSidecar, startSidecar } from '../support/sidecar.ts';
import { ROOT } from './markdown.ts';

const MAIN = join(ROOT, 'dist', 'main.js');
/** Those of the examples. */
const NAMES = ['topic-classification', 'sentiment-analysis'];

type Env = Readonly<Record<string, string>>;

interface Ended {
  readonly code: number | null;
  readonly output: string;
}

/** An MLflow with the models of the examples, and a sidecar before it, for commands to be tried on. */
export interface Stand {
  readonly mlflowUrl: string;
  readonly url: string;
  /** Of clients of that sidecar, who know its cache too. */
  readonly env: Env;
  /** A cache that no sidecar runs on. */
  readonly idleCache: string;
  /** For what commands write. */
  readonly dir: string;
  /** The address of a sidecar with this environment, but before the stand's MLflow. It runs until the stand is closed. */
  readonly start: (env: Env) => Promise<string>;
  /** Runs the built program with this environment and no other. */
  readonly run: (args: readonly string[], env: Env) => Promise<Ended>;
  readonly close: () => Promise<void>;
}

export async function openStand(): Promise<Stand> {
  const dir = await mkdtemp(join(tmpdir(), 'sidecar-docs-'));
  const mlflow = await ScriptedMlflow.start();
  const files = { MLmodel: Buffer.from('flavors: {}\n'), 'model.bin': Buffer.alloc(4_096) };
  for (const name of NAMES) mlflow.addVersion({ name, stage: 'Production', aliases: ['champion'], files });
  const uris = NAMES.map(name => `models:/${name}/Production`).join(',');
  const sidecar = await startSidecar({ ...mlflow.env, SIDECAR_MODELS: uris });
  const env = { ...mlflow.env, SIDECAR_URL: sidecar.url, SIDECAR_CACHE_DIR: sidecar.cacheDir };
  const run = (args: readonly string[], given: Env) => runMain(args, given, dir);
  const idleCache = join(dir, 'idle');
  const started = new Map<string, Promise<RunningSidecar>>();
  const start = async (given: Env) => {
    const key = JSON.stringify(given);
    // The machine's own: a free port, and a cache that it may write to.
    const { SIDECAR_PORT: _, SIDECAR_CACHE_DIR: __, ...others } = { ...given, ...mlflow.env };
    const running = started.get(key) ?? startSidecar(others);
    started.set(key, running);
    return (await running).url;
  };
  await run(['fetch', 'models:/topic-classification/1', '--to', join(dir, 'idle-model')], {
    ...mlflow.env,
    SIDECAR_CACHE_DIR: idleCache,
  });
  const close = async () => {
    for (const running of [sidecar, ...started.values()]) await (await running).stop();
    await mlflow.close();
    await rm(dir, { recursive: true, force: true });
  };
  return { mlflowUrl: mlflow.artifactsUrl, url: sidecar.url, env, idleCache, dir, start, run, close };
}

async function runMain(args: readonly string[], env: Env, dir: string): Promise<Ended> {
  const child = spawn(process.execPath, [MAIN, ...args], {
    cwd: dir,
    env: { PATH: process.env['PATH'] ?? '', HOME: dir, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const [stdout, stderr] = [readText(child.stdout), readText(child.stderr)];
  const [code]: (number | null)[] = await once(child, 'close');
  return { code: code ?? null, output: (await stdout) + (await stderr) };
}
