import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { text as readText } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { onTestFinished } from 'vitest';
import { z } from 'zod';

export const PYTHON = fileURLToPath(new URL('../../.cache/venv/mlflow-3.17.2/bin/python', import.meta.url));
/** With eventlet and gevent. */
export const GREEN_PYTHON = fileURLToPath(
  new URL('../../.cache/venv/green-threads/bin/python', import.meta.url),
);
export const CLIENT = fileURLToPath(new URL('../../clients/python', import.meta.url));

type Env = Readonly<Record<string, string>>;

/** A script of test/support/python that can import the helper, with this environment and nothing else of ours. */
export function startPython(
  script: string,
  args: readonly string[] = [],
  env: Env = {},
  python = PYTHON,
): ChildProcess {
  const file = fileURLToPath(new URL(`../support/python/${script}`, import.meta.url));
  const child = spawn(python, [file, ...args], {
    env: { PATH: process.env['PATH'] ?? '', PYTHONPATH: CLIENT, PYTHONDONTWRITEBYTECODE: '1', ...env },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  return child;
}

/** Gives it this input, and waits for its end. */
export async function outputOf(child: ChildProcess, input = ''): Promise<string> {
  const closed = once(child, 'close');
  child.stdin?.end(input);
  const output = child.stdout === null ? '' : await readText(child.stdout);
  await closed;
  return output;
}

const AnsweredSchema = z.object({
  value: z.unknown(),
  error: z.object({ type: z.string(), text: z.string(), code: z.string().nullable() }).nullable(),
  /** Seconds, as the caller measured them. */
  s: z.number(),
  log: z.array(z.string()),
});
export type Answered = z.infer<typeof AnsweredSchema>;

export interface Call {
  readonly function?: string;
  readonly arguments?: readonly string[];
  readonly options?: Readonly<Record<string, unknown>>;
  /** Stays for the calls that follow. */
  readonly environment?: Env;
}

export interface Caller {
  call(call: Call): Promise<Answered>;
  /** Lets it end by itself; milliseconds. */
  end(): Promise<number>;
}

/** One Python process that calls the helper, `model_path` unless told otherwise. */
export function startCaller(env: Env = {}): Caller {
  const child = startPython('sidecar_calls.py', [], env);
  const closed = once(child, 'close');
  const lines = linesOf(child);
  return {
    async call(call) {
      const whole = { function: 'model_path', arguments: [], options: {}, environment: {}, ...call };
      child.stdin?.write(`${JSON.stringify(whole)}\n`);
      return AnsweredSchema.parse(await lines.next());
    },
    async end() {
      const startedAt = performance.now();
      child.stdin?.end();
      await closed;
      return performance.now() - startedAt;
    },
  };
}

/** The JSON lines that a process prints, one after the other. */
export function linesOf(child: ChildProcess): { next(): Promise<unknown> } {
  if (child.stdout === null) throw new Error('Its output is not piped.');
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  return {
    async next() {
      const { value, done } = await lines.next();
      if (done === true) throw new Error('It ended early.');
      return JSON.parse(value);
    },
  };
}
