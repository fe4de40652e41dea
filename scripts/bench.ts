// How quick the sidecar is, beside what everybody has: in pairs, one after the other in one run, so that a busy machine slows down both.
// Prints a table and writes it as JSON. `npm run bench -- files ranges` runs only those.
import { mkdirSync, writeFileSync } from 'node:fs';
import { availableParallelism, loadavg } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { exitOnSignals } from '../test/support/at-exit.ts';
import { CASES } from './bench/cases.ts';
import { assertCurl } from './bench/curl.ts';
import { table, type Verdict } from './bench/report.ts';
import { startUpstream } from './bench/upstream.ts';
import { workDirectory } from './bench/work.ts';

const RESULTS = fileURLToPath(new URL('../.cache/bench.json', import.meta.url));
/** What is not done by then is not begun. */
const LIMIT_MS = 10 * 60_000;

async function bench(wanted: readonly string[]): Promise<boolean> {
  const names = wanted.length === 0 ? Object.keys(CASES) : wanted;
  const unknown = names.find(name => CASES[name] === undefined);
  if (unknown !== undefined)
    throw new Error(`No case is called ${unknown}: ${Object.keys(CASES).join(', ')}.`);
  await assertCurl();
  const endsAt = performance.now() + LIMIT_MS;
  const dir = workDirectory();
  const upstream = await startUpstream();
  const verdicts: Verdict[] = [];
  for (const name of names) {
    if (performance.now() > endsAt) {
      console.log(`✖ ${name}: not begun, the time is over`);
      verdicts.push({ name, what: 'not begun in time', value: Number.NaN, limit: 0, unit: '', ok: false });
      continue;
    }
    // Pairs bear a busy machine; what is compared with nothing does not.
    console.log(`▸ ${name} … (load ${loadavg()[0]?.toFixed(1)} on ${availableParallelism()} cores)`);
    const found = (await CASES[name]?.({ upstream, dir })) ?? [];
    for (const { what, value, unit } of found) console.log(`  ${what}: ${value.toFixed(2)} ${unit}`);
    verdicts.push(...found);
  }
  upstream.stop();
  console.log(`\n${table(verdicts)}\n`);
  mkdirSync(join(RESULTS, '..'), { recursive: true });
  writeFileSync(RESULTS, `${JSON.stringify({ at: new Date().toISOString(), verdicts }, null, 2)}\n`);
  console.log(`As JSON: ${RESULTS}`);
  return verdicts.every(({ ok }) => ok);
}

exitOnSignals();
try {
  process.exit((await bench(process.argv.slice(2))) ? 0 : 1);
} catch (error) {
  console.error(error instanceof Error ? `✖ ${error.message}` : error);
  process.exit(1);
}
