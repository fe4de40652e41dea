import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { mlflowEnv, mlflowPython } from './python-client.ts';

const SCRIPT = fileURLToPath(new URL('python/downloads.py', import.meta.url));

const Started = z.object({ mlflow: z.literal('3.17.2') });
const Answer = z.object({
  id: z.number(),
  seconds: z.number(),
  files: z.record(z.string(), z.string()).optional(),
  error: z.string().optional(),
});

/** What one `mlflow.artifacts.download_artifacts` came to. */
interface PythonDownload {
  readonly ms: number;
  /** The sha256 of every file, by its path; null where it failed. */
  readonly files: Readonly<Record<string, string>> | null;
  /** What the exception says; null where there was none. */
  readonly error: string | null;
}

/** MLflow's own client, unmodified and with its default settings. */
export interface PythonDownloads {
  /** Any number at once: each is a process of its own. */
  download(trackingUri: string, modelUri: string): Promise<PythonDownload>;
  /** Ends those that are under way, too. */
  stop(): Promise<void>;
}

/** Starts the client, which takes some seconds. */
export async function startPythonDownloads(): Promise<PythonDownloads> {
  const command = mlflowPython('3.17.2');
  if (!existsSync(command)) throw new Error(`${command} is not there: "npm test" makes it.`);
  const child = spawn(command, [SCRIPT], { env: mlflowEnv(), stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = once(child, 'exit');
  const waiting = new Map<number, (answer: z.infer<typeof Answer>) => void>();
  const lines = createInterface({ input: child.stdout });
  const [first] = await Promise.race([once(lines, 'line'), ended]);
  Started.parse(JSON.parse(String(first)));
  lines.on('line', line => {
    const answer = Answer.parse(JSON.parse(line));
    waiting.get(answer.id)?.(answer);
    waiting.delete(answer.id);
  });
  let asked = 0;
  return {
    async download(tracking_uri, model_uri) {
      const id = ++asked;
      const answered = new Promise<z.infer<typeof Answer>>(resolve => waiting.set(id, resolve));
      child.stdin.write(`${JSON.stringify({ id, tracking_uri, model_uri })}\n`);
      const { seconds, files = null, error = null } = await answered;
      return { ms: seconds * 1_000, files, error };
    },
    async stop() {
      child.stdin.end();
      await ended;
    },
  };
}
