import { readFile } from 'node:fs/promises';
import { type Reply, reload } from '../../test/support/reload.ts';
import { type RunningSidecar, startSidecar } from '../../test/support/sidecar.ts';
import { timed } from './curl.ts';

export function inProduction(name: string): string {
  return `models:/${name}/Production`;
}

/** Does `work` with a sidecar that has an empty cache in `cacheDir`. */
export async function withSidecar<T>(
  tracking: string,
  cacheDir: string,
  work: (sidecar: RunningSidecar) => Promise<T>,
  env: Readonly<Record<string, string>> = {},
): Promise<T> {
  const all = { ...env, MLFLOW_TRACKING_URI: tracking, SIDECAR_CACHE_DIR: cacheDir };
  const sidecar = await startSidecar(all);
  try {
    return await work(sidecar);
  } finally {
    await sidecar.stop();
  }
}

/** @throws Error unless it has this status */
export async function reloaded(url: string, name: string, status: string): Promise<Reply> {
  const reply = await reload(url, inProduction(name), { deadline_s: 600 });
  if (reply.outcome.status === status) return reply;
  throw new Error(
    `The reload of ${name} was ${reply.outcome.status}: ${reply.outcome.warning?.message ?? ''}`,
  );
}

/** Milliseconds of one reload with nothing cached. */
export async function coldReload(tracking: string, cacheDir: string, name: string): Promise<number> {
  return await withSidecar(tracking, cacheDir, async ({ url }) => (await reloaded(url, name, 'loaded')).ms);
}

/** Milliseconds from the start of the process to its first `/readyz` that says yes. */
export async function startToReady(env: Readonly<Record<string, string>>): Promise<number> {
  let sidecar: RunningSidecar | null = null;
  const ms = await timed(async () => {
    sidecar = await startSidecar(env, { probe: '/readyz' });
  });
  await (sidecar as RunningSidecar | null)?.stop();
  return ms;
}

/** What the process held in memory at most, in MB of 10⁶ bytes. */
export async function peakMemory(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return (Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1]) * 1_024) / 1e6;
}
