import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { atExit } from '../../test/support/at-exit.ts';
import { PYTHON } from './upstream.ts';

const SCRIPT = fileURLToPath(new URL('./loader.py', import.meta.url));
/** Its import of MLflow included. */
const LOAD_LIMIT_MS = 120_000;

/** One process of MLflow's client. */
export interface Loader {
  /** Milliseconds of one `load_model` by this tracking URI. */
  load(tracking: string): Promise<number>;
  readonly stop: () => void;
}

/** @param dir where the client keeps what it loads */
export function startLoader(modelUri: string, dir: string): Loader {
  const kept = Object.entries(process.env).filter(([name]) => !name.startsWith('MLFLOW_'));
  const child = spawn(PYTHON, [SCRIPT, modelUri], {
    env: { ...Object.fromEntries(kept), MLFLOW_DISABLE_TELEMETRY: 'true', TMPDIR: dir },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  const stop = atExit(() => void child.kill('SIGKILL'));
  let errors = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors = (errors + text).slice(-4_000);
  });
  // Where it has ended, the end of its output says so.
  child.stdin.on('error', () => undefined);
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return {
    stop,
    async load(tracking) {
      child.stdin.write(`${tracking}\n`);
      const timer = setTimeout(stop, LOAD_LIMIT_MS);
      const { value, done } = await lines.next().finally(() => clearTimeout(timer));
      if (done === true) throw new Error(`The load by ${tracking} failed:\n${errors}`);
      return Number(value) * 1_000;
    },
  };
}
