import { readFile, readlink } from 'node:fs/promises';
import { hostname } from 'node:os';
import { errnoOf } from '../../domain/errors.ts';

/** What tells a process from every other one, before and after it, here and on other hosts. */
export interface ProcessIdentity {
  readonly pid: number;
  /** See `pidSpace`. */
  readonly space: string;
  /** When it started, in ticks since its host did; absent where the system does not say. */
  readonly started?: string | undefined;
}

/** Of this process. */
export async function ownIdentity(): Promise<ProcessIdentity> {
  const started = (await statOf(process.pid))?.started;
  return { pid: process.pid, space: await pidSpace(), ...(started === undefined ? {} : { started }) };
}

/**
 * Where a process id means something: this host since it was started, and on Linux this container. Hosts of one name have
 * other boot ids, and two containers of one host other process name spaces. Where the system does not say, it means nothing to anybody.
 */
export async function pidSpace(): Promise<string> {
  try {
    const boot = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
    return `${hostname()} ${boot} ${await readlink('/proc/self/ns/pid')}`;
  } catch {
    return '';
  }
}

/** Whether that very process, which is another than this one, runs; null where it cannot be said from here. */
export async function isRunning({ pid, space, started }: ProcessIdentity): Promise<boolean | null> {
  if (space === '' || space !== (await pidSpace())) return null;
  // One that had our own id before us is gone, as is usual in a container.
  if (pid === process.pid || !isThere(pid)) return false;
  const found = await statOf(pid);
  // Of other users some systems show nothing.
  if (found === null || started === undefined) return null;
  return found.started === started && found.state !== 'Z' && found.state !== 'X';
}

function isThere(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return errnoOf(error) === 'EPERM';
  }
}

/** From proc(5): the third and the twenty-second field; the second is the name, in which anything may be. */
async function statOf(pid: number): Promise<{ readonly state: string; readonly started: string } | null> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => null);
  const fields = text?.slice(text.lastIndexOf(')') + 2).split(' ') ?? [];
  const [state, started] = [fields[0], fields[19]];
  return state === undefined || started === undefined ? null : { state, started };
}
