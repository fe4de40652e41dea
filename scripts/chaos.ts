// The long crash and fault runs. Whatever happens, they end within the limit and leave nothing behind.
// `npm run chaos -- kill matrix` runs only those, in their full size; without a name most of them run, some in a smaller one.
// All of them hold times to what is promised (test/support/limits.ts): they want a machine that does nothing else.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { atExit, exitOnSignals } from '../test/support/at-exit.ts';

const LIMIT_MS = 15 * 60_000;
const VITEST = fileURLToPath(new URL('../node_modules/vitest/vitest.mjs', import.meta.url));

const dir = mkdtempSync(join(tmpdir(), 'sidecar-chaos-'));
// One test reads as another user.
chmodSync(dir, 0o755);
const account = join(dir, 'account.jsonl');
const env = {
  ...process.env,
  TMPDIR: dir,
  CHAOS_ACCOUNT: account,
  CRASH_SEED: process.env['CRASH_SEED'] ?? String(Date.now() % 1_000_000),
};

interface Run {
  readonly title: string;
  /** It takes long, and `npm test` does nearly all of it: only with its name. */
  readonly isOnlyNamed?: true;
  /** Ends at once when the limit is reached; rejects where something is not as it should be. */
  readonly work: (limit: AbortSignal, isAlone: boolean) => Promise<void>;
}

/** In this order: what takes longest comes last. */
const RUNS: Readonly<Record<string, Run>> = {
  disk: { title: 'A disk that fills', work: vitest('test/crash/full-disk.test.ts') },
  large: { title: 'A large file that is broken off', work: vitest('test/crash/resume.test.ts') },
  scrub: { title: 'A thousand damaged files', work: vitest('test/faults/scrub.test.ts') },
  breaker: {
    title: 'A breaker that is open',
    work: vitest('test/faults/breaker.test.ts', 'test/faults/storm.test.ts', 'test/faults/outage.test.ts'),
  },
  loop: {
    title: 'What may hold the event loop up',
    work: vitest('test/faults/many-models.test.ts', 'test/faults/deep-tree.test.ts'),
  },
  overload: { title: 'Ten times the sustainable load', work: vitest('test/faults/overload.test.ts') },
  share: {
    title: 'Two sidecars on a cache',
    work: vitest('test/crash/share.test.ts', 'test/crash/survivor.test.ts'),
  },
  quota: { title: 'Many versions under a small quota', work: vitest('test/faults/quota.test.ts') },
  answers: { title: 'Long answers of MLflow’s in 512 MiB', work: vitest('test/faults/long-answers.test.ts') },
  matrix: { title: 'Everything that MLflow can do wrong', work: vitest('test/faults/matrix.test.ts') },
  proxy: {
    title: 'MLflow’s own clients, through everything that it can do wrong and through swaps',
    work: vitest('test/faults/proxy-matrix.test.ts', 'test/faults/proxy-swap.test.ts'),
  },
  bytes: {
    title: 'Versions of roots that are overwritten',
    work: vitest('test/e2e/overwritten.test.ts'),
  },
  writes: { title: 'Writes that change nothing', work: vitest('test/faults/proxy-writes.test.ts') },
  inject: {
    title: 'Every file operation fails once',
    work: vitest('test/crash/inject.test.ts', 'test/crash/disk-errors.test.ts'),
  },
  kill: { title: 'kill -9 at random moments', work: vitest('test/crash/kill.test.ts') },
  boundaries: { title: 'kill -9 at each boundary', work: vitest('test/crash/boundaries.test.ts') },
  publishes: { title: 'Readers through publishes', work: vitest('test/crash/publishes.test.ts') },
  limits: {
    title: 'Every limit of npm test, to the millisecond',
    isOnlyNamed: true,
    work: vitest(
      ...[
        'artifacts',
        'cli',
        'clients',
        'http',
        'jobs',
        'policy',
        'proxy',
        'registry',
        'reload',
        'upstream',
      ].map(room => `test/${room}/`),
      ...['callers', 'credentials', 'deadline', 'disk', 'matrix-stand', 'proxy-disk', 'slow', 'stale'].map(
        name => `test/faults/${name}.test.ts`,
      ),
    ),
  },
  airflow: {
    title: 'Every example on every Airflow',
    isOnlyNamed: true,
    work: vitest('test/e2e/airflow'),
  },
};

function vitest(...files: readonly string[]): Run['work'] {
  return async (limit, isAlone) => {
    const args = [VITEST, 'run', ...files];
    const child = spawn(process.execPath, args, {
      env: { ...env, CHAOS: isAlone ? 'long' : 'mixed' },
      stdio: 'inherit',
      signal: limit,
      killSignal: 'SIGKILL',
    });
    const [code] = await once(child, 'exit');
    if (code !== 0) throw new Error(`vitest ended with exit code ${code}: see above.`);
  };
}

const Line = z.object({ what: z.string(), counts: z.record(z.string(), z.number()) });

/** What the runs did, summed. */
function accounts(): Readonly<Record<string, Readonly<Record<string, number>>>> {
  const sums: Record<string, Record<string, number>> = {};
  const text = existsSync(account) ? readFileSync(account, 'utf8') : '';
  for (const line of text.split('\n').filter(Boolean)) {
    const { what, counts } = Line.parse(JSON.parse(line));
    const sum = sums[what] ?? {};
    for (const [name, count] of Object.entries(counts)) sum[name] = (sum[name] ?? 0) + count;
    sums[what] = sum;
  }
  return sums;
}

async function runAll(wanted: readonly string[]): Promise<boolean> {
  const names =
    wanted.length > 0 ? wanted : Object.keys(RUNS).filter(name => RUNS[name]?.isOnlyNamed !== true);
  const unknown = names.find(name => RUNS[name] === undefined);
  if (unknown !== undefined) throw new Error(`No run is called ${unknown}: ${Object.keys(RUNS).join(', ')}.`);
  const limit = AbortSignal.timeout(LIMIT_MS);
  const rows: object[] = [];
  let isGood = true;
  for (const name of names) {
    const run = RUNS[name];
    if (run === undefined) continue;
    const { title, work } = run;
    console.log(`\n── ${title}`);
    const startedAt = performance.now();
    const result = await work(limit, wanted.length > 0).then(
      () => 'ok',
      (error: unknown) => (limit.aborted ? 'cut off at the limit' : String(error)),
    );
    isGood &&= result === 'ok';
    rows.push({ run: title, seconds: Math.round((performance.now() - startedAt) / 1_000), result });
  }
  console.log('\n── What was done');
  console.table(accounts());
  console.table(rows);
  return isGood;
}

exitOnSignals();
atExit(() => rmSync(dir, { recursive: true, force: true, maxRetries: 5 }));
const isGood = await runAll(process.argv.slice(2)).catch((error: unknown) => {
  console.error(`✖ ${error instanceof Error ? error.message : String(error)}`);
  process.exit(1);
});
console.log(
  isGood
    ? '✅ Nothing torn, nothing lost.'
    : `✖ See above; "CRASH_SEED=${env.CRASH_SEED} npm run chaos", with the same names, repeats it.`,
);
process.exit(isGood ? 0 : 1);
