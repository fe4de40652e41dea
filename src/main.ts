#!/usr/bin/env node
import { CommandFailure, FAILED } from './cli/failure.ts';
import { errnoOf, toSidecarError } from './domain/errors.ts';

// The disk, the log and the system's name look-ups share libuv's threads, four by default. What may hang on one disk is
// limited to some forty of them, so that the others go on. It is read when the first of them starts, which nothing so far has caused.
process.env['UV_THREADPOOL_SIZE'] ??= '64';

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
