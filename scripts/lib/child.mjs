import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/** An error that is one line telling the user what to do. */
export class Advice extends Error {}

const SHOWN_LINES = 20;
const children = new Set();

/**
 * Runs a program to its end and gives `{ code, output }`; `output` is empty where it is shown as it comes.
 * It leads a process group of its own: what it left running ends with it.
 */
export function run(command, args, { show = false, env = {} } = {}) {
  return new Promise(resolve => {
    const child = spawn(command, args, {
      cwd: ROOT,
      env: { ...process.env, ...env },
      stdio: ['ignore', show ? 'inherit' : 'pipe', show ? 'inherit' : 'pipe'],
      detached: true,
    });
    children.add(child);
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('utf8').on('data', chunk => {
        output += chunk;
      });
    }
    const end = (code, text) => {
      children.delete(child);
      resolve({ code, output: text });
    };
    child.once('error', error => end(127, error.message));
    child.once('exit', () => signalGroup(child, 'SIGKILL'));
    child.once('close', (code, signal) => end(code ?? 128 + constants.signals[signal], output));
  });
}

/** One step of the preparation, with its time; on failure what its output says about it, and an `Advice`. */
export async function step(what, command, args, advice, options) {
  const startedAt = Date.now();
  console.log(`▸ ${what} …`);
  const { code, output } = await run(command, args, options);
  if (code !== 0) {
    console.error(whatWentWrong(output));
    throw new Advice(advice);
  }
  console.log(`  done in ${((Date.now() - startedAt) / 1000).toFixed(1)} s: ${what}`);
}

/** As `Promise.all`, but a failure comes once nothing goes on any more: what it says is the last that is shown. */
export async function allOf(works) {
  await Promise.allSettled(works);
  return await Promise.all(works);
}

/** npm follows its error with a page of help: from the first line that speaks of one, else the last lines. */
function whatWentWrong(output) {
  const lines = output.trimEnd().split('\n');
  const first = lines.findIndex(line => /error/i.test(line));
  const from = first >= 0 ? first : lines.length - SHOWN_LINES;
  return lines.slice(Math.max(0, from), Math.max(0, from) + SHOWN_LINES).join('\n');
}

/**
 * Ctrl-C reaches this process from the terminal and again from npm. The children, in groups of their own, are told
 * once, so that their own cleaning up is not cut short by a second signal.
 */
export function endChildrenOnSignal() {
  let told = false;
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    process.on(signal, () => {
      if (told) return;
      told = true;
      if (children.size === 0) process.exit(128 + constants.signals[signal]);
      for (const child of children) signalGroup(child, signal);
    });
  }
}

function signalGroup(child, signal) {
  try {
    process.kill(-child.pid, signal);
  } catch {
    // The group has ended.
  }
}
