import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { atExit } from './at-exit.ts';
import { BYTECODE } from './python-bytecode.ts';
import type { MlflowVersion } from './real-mlflow.ts';

/** Longer than whatever a client takes with a sidecar, its start on a busy machine included, and shorter than one that fails without: 246 s. */
const LIMIT_MS = 120_000;

const SCRIPT = fileURLToPath(new URL('python/proxy_client.py', import.meta.url));

/** For this command and those after it; null takes a variable away. */
export type Environment = Readonly<Record<string, string | null>>;

const DoneSchema = z.object({
  value: z.unknown(),
  /** What was raised: its type and text. */
  error: z.string().nullable(),
  /** Seconds, as the client measured them. */
  s: z.number(),
});
export type Done = z.infer<typeof DoneSchema>;

/** MLflow's own client with certain settings. A name is that of `PythonClient.do`. */
export interface MlflowAt {
  /** @throws Error where it fails */
  readonly gives: (name: string, args: Readonly<Record<string, unknown>>) => Promise<unknown>;
  /**
   * What it raises.
   * @throws Error where it gives something
   */
  readonly fails: (name: string, args: Readonly<Record<string, unknown>>) => Promise<string>;
}

/** MLflow's own client in a process of its own, which does one command after the other. */
export class PythonClient {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  readonly #closed: Promise<unknown>;
  readonly #kill: () => void;
  #last: Promise<unknown> = Promise.resolve();

  /** Its first command waits for `import mlflow`, which takes 3 to 4 s. */
  constructor(version: MlflowVersion) {
    // Its own, since MLflow leaves what it downloads to the end of the process.
    const dir = mkdtempSync(join(tmpdir(), 'mlflow-client-'));
    this.#child = spawn(mlflowPython(version), [SCRIPT], {
      cwd: dir,
      env: { ...mlflowEnv(), TMPDIR: dir },
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    if (this.#child.stdout === null) throw new Error('Its output is not piped.');
    this.#lines = createInterface(this.#child.stdout)[Symbol.asyncIterator]();
    this.#closed = once(this.#child, 'close');
    this.#kill = atExit(() => {
      this.#child.kill('SIGKILL');
      rmSync(dir, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 });
    });
  }

  /**
   * @param name `load`, `download`, `make_file`, or a method of MlflowClient
   * @throws Error where it has not answered within 120 s, or has ended
   */
  do(name: string, args: Readonly<Record<string, unknown>>, environment: Environment): Promise<Done> {
    const done = this.#last.then(() => this.#do({ function: name, arguments: args, environment }));
    this.#last = done.catch(() => undefined);
    return done;
  }

  at(environment: Environment): MlflowAt {
    return {
      gives: async (name, args) => {
        const { value, error } = await this.do(name, args, environment);
        if (error !== null) throw new Error(`${name} ${JSON.stringify(args)}: ${error}`);
        return value;
      },
      fails: async (name, args) => {
        const { value, error } = await this.do(name, args, environment);
        if (error === null) throw new Error(`${name} gives ${JSON.stringify(value)}.`);
        return error;
      },
    };
  }

  async stop(): Promise<void> {
    this.#kill();
    await this.#closed;
  }

  async #do(command: object): Promise<Done> {
    const timer = setTimeout(() => this.#kill(), LIMIT_MS);
    try {
      this.#child.stdin?.write(`${JSON.stringify(command)}\n`);
      const { value, done } = await this.#lines.next();
      if (done === true) throw new Error(`The client ended, or took too long: ${JSON.stringify(command)}`);
      return DoneSchema.parse(JSON.parse(value));
    } finally {
      clearTimeout(timer);
    }
  }
}

export function mlflowPython(version: MlflowVersion): string {
  return fileURLToPath(new URL(`../../.cache/venv/mlflow-${version}/bin/python`, import.meta.url));
}

/** Nothing of this process's own settings for MLflow. */
export function mlflowEnv(): NodeJS.ProcessEnv {
  return {
    PATH: process.env['PATH'] ?? '',
    ...BYTECODE,
    MLFLOW_DISABLE_TELEMETRY: 'true',
    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR: 'false',
    GIT_PYTHON_REFRESH: 'quiet',
    NO_PROXY: '127.0.0.1',
  };
}
