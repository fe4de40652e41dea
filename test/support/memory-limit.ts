import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

/** A cgroup whose processes are killed where together they take more memory than it has. */
export interface MemoryLimit {
  /** A command that starts what follows it within the limit, in its own place. */
  readonly via: readonly string[];
  /** The most that was taken so far, in bytes. */
  peak(): number;
  /** Once its processes have ended. */
  close(): Promise<void>;
}

const KINDS = [
  { dir: '/sys/fs/cgroup/memory', limit: 'memory.limit_in_bytes', peak: 'memory.max_usage_in_bytes' },
  { dir: '/sys/fs/cgroup', limit: 'memory.max', peak: 'memory.peak' },
];

/** Null where this process may not make one. */
export function memoryLimit(bytes: number): MemoryLimit | null {
  for (const kind of KINDS) {
    const dir = join(kind.dir, `sidecar-test-${process.pid}`);
    try {
      mkdirSync(dir);
    } catch {
      continue;
    }
    try {
      writeFileSync(join(dir, kind.limit), String(bytes), { flag: 'r+' });
    } catch {
      rmdirSync(dir);
      continue;
    }
    return {
      via: ['sh', '-c', `echo $$ > ${dir}/cgroup.procs && exec "$@"`, 'sh'],
      peak: () => Number(readFileSync(join(dir, kind.peak), 'utf8')),
      close: () => removed(dir),
    };
  }
  return null;
}

/** It is busy for a moment after the last process. */
async function removed(dir: string): Promise<void> {
  for (let tries = 0; ; tries++) {
    try {
      return rmdirSync(dir);
    } catch (error) {
      if (tries === 50) throw error;
      await delay(20);
    }
  }
}
