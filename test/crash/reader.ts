/** A process of its own that reads the model behind a ref over and over, until it is told to stop; then it says what it saw. */
import { realpathSync } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';
import { readWhole } from './content.ts';

export interface Seen {
  readonly rounds: number;
  readonly versions: readonly string[];
  readonly faults: readonly string[];
}

const [, , ref = ''] = process.argv;
const versions = new Set<string>();
const faults: string[] = [];
let rounds = 0;
const stop = new AbortController();

/** A ref that is away for a moment only is seen by who looks at it without a pause. */
function resolveFor(ms: number): void {
  const end = performance.now() + ms;
  while (performance.now() < end) realpathSync(ref);
}

process.once('message', () => stop.abort());

while (!stop.signal.aborted) {
  try {
    versions.add(await readWhole(ref));
    resolveFor(40);
  } catch (error) {
    faults.push(String(error));
  }
  rounds += 1;
  await turn();
}
const seen: Seen = { rounds, versions: [...versions], faults };
process.send?.(seen, () => process.disconnect());
