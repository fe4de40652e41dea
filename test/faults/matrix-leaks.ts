import { readdir, readFile, readlink, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import type { RunningSidecar } from '../support/sidecar.ts';
import { until } from './harness.ts';

const PROBE_LIMIT_MS = 5_000;
const Probed = z.array(z.string());
const Line = z.looseObject({ event: z.string(), sidecar_run_id: z.string().nullish() });

/** What a process has open: connections to others, files, pipes, timers and whatever else its event loop knows of. */
export type Holdings = readonly string[];

/** @param probeFile where test/support/preload/resources.mjs, which the process was started with, writes to */
export async function holdingsOf(sidecar: RunningSidecar, probeFile: string): Promise<Holdings> {
  await rm(probeFile, { force: true });
  process.kill(sidecar.pid, 'SIGUSR2');
  const text = await until(PROBE_LIMIT_MS, () => readFile(probeFile, 'utf8').catch(() => null));
  return [...Probed.parse(JSON.parse(text)), ...(await descriptorsOf(sidecar))];
}

/** What of `now` there is more of than `before`. */
export function leaksOf(before: Holdings, now: Holdings): Holdings {
  const left = [...before];
  return now.filter(held => {
    const at = left.indexOf(held);
    if (at >= 0) left.splice(at, 1);
    return at < 0;
  });
}

async function descriptorsOf({ pid, url }: RunningSidecar): Promise<Holdings> {
  const dir = `/proc/${pid}/fd`;
  const ports = await tcpPorts(pid);
  const own = Number(new URL(url).port);
  const links = await Promise.all(
    (await readdir(dir)).map(name => readlink(join(dir, name)).catch(() => null)),
  );
  return links.flatMap(link => {
    if (link === null) return [];
    const inode = /^socket:\[(\d+)\]$/.exec(link)?.[1];
    const port = inode === undefined ? undefined : ports.get(inode);
    if (port === own) return [];
    return port === undefined ? link.replace(/:\[\d+\]$/, '') : 'connection to somebody';
  });
}

/** The local port of each TCP socket, by its inode. */
async function tcpPorts(pid: number): Promise<ReadonlyMap<string, number>> {
  const tables = await Promise.all(
    ['tcp', 'tcp6'].map(table => readFile(`/proc/${pid}/net/${table}`, 'utf8').catch(() => '')),
  );
  const rows = tables.flatMap(table => table.trim().split('\n').slice(1)).map(row => row.trim().split(/\s+/));
  return new Map(rows.map(row => [row[9] ?? '', Number.parseInt(row[1]?.split(':')[1] ?? '', 16)]));
}

/** Waits until every run that any call joined has come to its end. */
export async function runsOver(sidecar: RunningSidecar, limitMs: number): Promise<void> {
  await until(limitMs, async () => (runsUnderWay(sidecar.logs()) === 0 ? true : null));
}

function runsUnderWay(logs: string): number {
  const lines = logs.split('\n').flatMap(line => {
    const parsed = line.startsWith('{') ? Line.safeParse(JSON.parse(line)) : null;
    return parsed?.success === true ? [parsed.data] : [];
  });
  const ids = (...events: readonly string[]) =>
    lines.filter(line => events.includes(line.event)).map(line => line.sidecar_run_id);
  const over = new Set(ids('run_finished', 'run_failed'));
  return ids('reload_finished').filter(id => !over.has(id)).length;
}
