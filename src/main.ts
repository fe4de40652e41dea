#!/usr/bin/env node
// By its default: an older Node lacks the name, and is to be told so below.
import nodeModule from 'node:module';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { CommandFailure, FAILED } from './cli/failure.ts';
import { errnoOf, toSidecarError } from './domain/errors.ts';

// The disk, the log and the system's name look-ups share libuv's threads, four by default. What may hang on one disk is
// limited to fewer of them (commits, looks, saves, files in flight), so that the others go on. It is read when the first of them starts, which nothing so far has caused.
process.env['UV_THREADPOOL_SIZE'] ??= '64';

// Memory before peak speed: a sidecar waits for networks and disks, and what is hot in it (hashes, copies) is not JavaScript.
const V8_FLAGS = [
  // A download makes garbage of a socket's buffers, 64 KiB each, of which the young heap only sees the small handles: a small one
  // is swept early. 55 MB more at the peak of a large download otherwise.
  '--semi-space-growth-factor=1',
  // To optimise undici's HTTP parser, one huge function, takes 20 MB that are never given back; as it is it reads a head in microseconds.
  ...['--no-wasm-tier-up', '--no-wasm-dynamic-tiering'],
];
for (const flag of V8_FLAGS) setFlagsFromString(flag);

// In a directory of this user's own: what is in it is run. Where it cannot be written, or a container's user has no home, the start takes longer.
try {
  const { XDG_CACHE_HOME, NODE_COMPILE_CACHE } = process.env;
  nodeModule.enableCompileCache?.(
    NODE_COMPILE_CACHE ?? join(XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'mlflow-sidecar', 'compile'),
  );
} catch {}

/** As `engines` in package.json has it. */
const MIN_NODE = 24;

/** `mlflow-sidecar status | head -1` closes the pipe before everything is written: nothing is wrong then. */
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', error => {
    if (errnoOf(error) === 'EPIPE') process.exit(process.exitCode);
    throw error;
  });
}

/** Users see words, not stacks. */
function fail(error: unknown): number {
  const { message, hint } = toSidecarError(error);
  const words = error instanceof CommandFailure || hint === null ? message : `${message} ${hint}`;
  process.stderr.write(`mlflow-sidecar: ${words}\n`);
  return error instanceof CommandFailure ? error.exitCode : FAILED;
}

process.setUncaughtExceptionCaptureCallback(error => process.exit(fail(error)));

/** An older Node fails somewhere in the middle, in words that help nobody. */
function assertNode(): void {
  const { node } = process.versions;
  if (Number.parseInt(node, 10) >= MIN_NODE) return;
  throw new CommandFailure(`it needs Node ${MIN_NODE} or newer, and this is Node ${node}.`, FAILED);
}

async function main(): Promise<number> {
  try {
    assertNode();
    const { run } = await import('./cli/program.ts');
    return await run(process.argv.slice(2), process.env);
  } catch (error) {
    return fail(error);
  }
}

// What is still open, such as a kept-alive connection, must not hold the process.
process.exit(await main());
