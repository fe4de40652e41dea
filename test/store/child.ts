import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { onTestFinished } from 'vitest';

const SCRIPT = fileURLToPath(new URL('./publisher.ts', import.meta.url));

export interface Child {
  readonly pid: number;
  /** What it has said so far, by line. */
  readonly lines: readonly string[];
  /** Resolves when it has said so many lines, or has ended. */
  said(lines: number): Promise<void>;
  /** Ends it at once; resolves when it is gone. */
  kill(): Promise<void>;
}

/**
 * Starts a process on the store; it is ended with the test at the latest.
 * @param via a command that starts what follows it, and ends it when it is ended
 */
export function start(args: readonly string[], via: readonly string[] = []): Child {
  const [command = process.execPath, ...rest] = [...via, process.execPath, SCRIPT, ...args];
  const child = spawn(command, rest, { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = once(child, 'close');
  const lines: string[] = [];
  const heard = new EventTarget();
  createInterface({ input: child.stdout }).on('line', line => {
    lines.push(line);
    heard.dispatchEvent(new Event('line'));
  });
  const said = async (count: number) => {
    while (lines.length < count && child.exitCode === null && child.signalCode === null) {
      await Promise.race([once(heard, 'line'), ended]);
    }
  };
  const kill = async () => {
    end(child);
    await ended;
  };
  onTestFinished(kill);
  return { pid: child.pid ?? 0, lines, said, kill };
}

/** Runs it to its end. */
export async function run(args: readonly string[]): Promise<void> {
  const child = spawn(process.execPath, [SCRIPT, ...args], { stdio: ['ignore', 'ignore', 'inherit'] });
  const [code] = await once(child, 'close');
  if (code !== 0) throw new Error(`It ended with exit code ${code}.`);
}

function end(child: ChildProcess): void {
  if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
}
