import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { atExit } from './at-exit.ts';
import { freePort } from './free-port.ts';
import { mlflowEnv, mlflowPython } from './python-client.ts';
import type { MlflowVersion } from './real-mlflow.ts';

/** It takes 8 s on a quiet machine, most of them for two times `import mlflow`. */
const START_LIMIT_MS = 120_000;

export interface ModelServer {
  predict(inputs: readonly string[]): Promise<unknown>;
  stop(): Promise<void>;
}

/**
 * `mlflow models serve` of a model, in MLflow's own environment, with one worker.
 * @param trackingUri all that it is told of where models are
 * @throws Error where it ends or does not answer within 120 s
 */
export async function serveModel(
  version: MlflowVersion,
  modelUri: string,
  trackingUri: string,
): Promise<ModelServer> {
  const url = `http://127.0.0.1:${await freePort()}`;
  const cwd = await mkdtemp(join(tmpdir(), 'model-server-'));
  const where = ['--host', '127.0.0.1', '--port', new URL(url).port, '--workers', '1'];
  const args = ['serve', '--model-uri', modelUri, '--env-manager', 'local', ...where];
  const python = mlflowPython(version);
  const env = mlflowEnv();
  const child = spawn(python, ['-m', 'mlflow', 'models', ...args], {
    cwd,
    // It starts uvicorn by its name.
    env: { ...env, PATH: `${dirname(python)}:${env['PATH']}`, TMPDIR: cwd, MLFLOW_TRACKING_URI: trackingUri },
    stdio: 'ignore',
    detached: true,
  });
  const closed = once(child, 'close');
  const kill = atExit(() => endGroup(child.pid));
  const server = {
    async predict(inputs: readonly string[]): Promise<unknown> {
      const response = await fetch(`${url}/invocations`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ inputs }),
      });
      return await response.json();
    },
    async stop() {
      kill();
      await closed;
      await rm(cwd, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 });
    },
  };
  const startedAt = performance.now();
  try {
    while (!(await isUp(url))) {
      if (child.exitCode !== null) throw new Error(`It ended with exit code ${child.exitCode}.`);
      if (performance.now() - startedAt > START_LIMIT_MS) throw new Error('It did not answer in time.');
      await delay(100);
    }
  } catch (error) {
    await server.stop();
    throw error;
  }
  return server;
}

async function isUp(url: string): Promise<boolean> {
  try {
    const response = await fetch(`${url}/ping`, { signal: AbortSignal.timeout(2_000) });
    await response.body?.cancel();
    return response.ok;
  } catch {
    return false;
  }
}

/** It starts others, which are to end with it. */
function endGroup(leader: number | undefined): void {
  if (leader === undefined) return;
  try {
    process.kill(-leader, 'SIGKILL');
  } catch {
    // All have ended.
  }
}
