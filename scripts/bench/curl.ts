import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { PYTHON } from './upstream.ts';

const run = promisify(execFile);
const LIMIT = { timeout: 300_000, maxBuffer: 64 * 1024 * 1024 };

export async function assertCurl(): Promise<void> {
  await run('curl', ['--version']).catch(() => {
    throw new Error('curl is not there, and the bench compares with it: apt-get install curl.');
  });
}

/** Milliseconds that `work` takes. */
export async function timed(work: () => Promise<unknown>): Promise<number> {
  const startedAt = performance.now();
  await work();
  return performance.now() - startedAt;
}

/** One file, and its bytes on the disk. */
export async function curlFile(url: string, dir: string): Promise<number> {
  const path = join(dir, 'file');
  return await timed(async () => {
    await run('curl', ['-sSf', '-o', path, url], LIMIT);
    await run('sync', ['-d', path], LIMIT);
  });
}

/** One file, and its bytes nowhere. */
export async function curlNowhere(url: string): Promise<number> {
  return await timed(() => run('curl', ['-sSf', '-o', '/dev/null', url], LIMIT));
}

/** Many files, 32 at once. */
export async function curlFiles(urls: readonly string[], dir: string): Promise<number> {
  const config = join(dir, 'urls');
  const lines = urls.map((url, at) => `url = "${url}"\noutput = "${join(dir, `f${at}`)}"`);
  await writeFile(config, lines.join('\n'));
  return await timed(() =>
    run('curl', ['-Sf', '--no-progress-meter', '-Z', '--parallel-max', '32', '-K', config], LIMIT),
  );
}

/** As its users download a model today. */
export async function mlflowDownload(tracking: string, artifactUri: string, dir: string): Promise<number> {
  const env = { ...process.env, MLFLOW_TRACKING_URI: tracking, MLFLOW_DISABLE_TELEMETRY: 'true' };
  const args = ['-m', 'mlflow', 'artifacts', 'download', '-u', artifactUri, '-d', dir];
  return await timed(() => run(PYTHON, args, { ...LIMIT, env }));
}
