/**
 * A process of its own that reads the model behind a ref over and over, until it is told to stop; then it says what it saw.
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
/** Of its time it leaves half to the others. */
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
      resolveFor(LOOK_MS / Number(readers));
    } catch (error) {
      if (faults.length < MOST_FAULTS) faults.push(String(error));
    }
    rounds += 1;
    await delay(PAUSE_MS);
  }
}

process.once('message', () => stop.abort());

await Promise.all(Array.from({ length: Number(readers) }, read));
const seen: Seen = { rounds, versions: [...versions], faults };
process.send?.(seen, () => process.disconnect());
