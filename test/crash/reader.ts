/**
 * A process of its own that reads the model behind a ref over and over, until it is told to stop; then it says what it saw. It tells
 * when it has read once.
 * Its arguments: the ref, and how many readers it is.
 */
import { realpathSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { readWhole } from './content.ts';

export interface Seen {
  readonly rounds: number;
  readonly versions: readonly string[];
  readonly faults: readonly string[];
}

const MOST_FAULTS = 20;
/** It leaves half of its time to the others, or more where it is many readers. */
const LOOK_MS = 20;
const PAUSE_MS = 20;

const [, , ref = '', readers = '1'] = process.argv;
const versions = new Set<string>();
const faults: string[] = [];
let rounds = 0;
const stop = new AbortController();

/** A ref that is away for a moment only is seen by who looks at it without a pause. */
function resolveFor(ms: number): void {
  const end = performance.now() + ms;
  while (performance.now() < end) realpathSync(ref);
}

async function read(): Promise<void> {
  while (!stop.signal.aborted) {
    try {
      versions.add(await readWhole(ref));
      if (readers === '1') resolveFor(LOOK_MS);
    } catch (error) {
      if (faults.length < MOST_FAULTS) faults.push(String(error));
    }
    if (rounds === 0) process.send?.('begun');
    rounds += 1;
    await delay(PAUSE_MS * Number(readers) * (0.5 + Math.random()));
  }
}

process.once('message', () => stop.abort());

await Promise.all(Array.from({ length: Number(readers) }, read));
const seen: Seen = { rounds, versions: [...versions], faults };
process.send?.(seen, () => process.disconnect());
