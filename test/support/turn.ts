import { mkdirSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { atExit } from './at-exit.ts';

/** All test files of one run have the same parent. */
const TAKEN = join(tmpdir(), `sidecar-turn-${process.ppid}`);
const LOOK_MS = 50;

/** Does `work` once no other test file of this run is at its own: what is held to milliseconds is measured in turns. */
export async function withTurn<T>(work: () => Promise<T>): Promise<T> {
  while (!took()) await delay(LOOK_MS);
  const giveBack = atExit(() => rmdirSync(TAKEN));
  try {
    return await work();
  } finally {
    giveBack();
  }
}

function took(): boolean {
  try {
    mkdirSync(TAKEN);
    return true;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') return false;
    throw error;
  }
}
