import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Advice, ROOT } from './child.mjs';
import { runOnNode, runTool } from './node.mjs';

const CHECKS = [
  ['Types', 'tsc', ['--noEmit']],
  ['Format and lint (biome)', 'biome', ['check', '.']],
  ['Lint with types (oxlint)', 'oxlint', ['--type-aware']],
  ['Dead code (knip)', 'knip', []],
];

const DEMO = fileURLToPath(new URL('../demo.ts', import.meta.url));
const CHAOS = fileURLToPath(new URL('../chaos.ts', import.meta.url));
const BENCH = fileURLToPath(new URL('../bench.ts', import.meta.url));
const RESULTS = join(ROOT, '.cache', 'vitest.json');

export async function build() {
  await check('Build', 'rolldown', ['-c', 'rolldown.config.ts']);
}

export async function lint() {
  for (const [title, tool, args] of CHECKS) await check(title, tool, args);
}

async function check(title, tool, args) {
  const startedAt = Date.now();
  console.log(`▸ ${title}: ${[tool, ...args].join(' ')}`);
  if ((await runTool(tool, args)) !== 0) throw new Advice(`${title} failed: see above.`);
  console.log(`  ok in ${((Date.now() - startedAt) / 1000).toFixed(1)} s`);
}

export function demo() {
  return runOnNode([DEMO]);
}

export function chaos(args) {
  return runOnNode([CHAOS, ...args]);
}

export function bench(args) {
  return runOnNode([BENCH, ...args]);
}

/** The exit code is vitest's; the last line is its account in the one form that is read by machines. */
export async function vitest(args) {
  console.log(`▸ Tests: vitest run ${args.join(' ')}`);
  mkdirSync(join(ROOT, '.cache'), { recursive: true });
  rmSync(RESULTS, { force: true });
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${RESULTS}`];
  const program = join('node_modules', 'vitest', 'vitest.mjs');
  const code = await runOnNode([program, 'run', ...reporters, ...args]);
  if (!existsSync(RESULTS)) throw new Advice('vitest ended without results: see above.');
  console.log(summary(JSON.parse(readFileSync(RESULTS, 'utf8'))));
  return code;
}

/** A file that fails outside of its tests, for example on an import, counts as one failure. */
function summary({ testResults }) {
  const count = (...statuses) =>
    testResults.flatMap(file => file.assertionResults).filter(test => statuses.includes(test.status)).length;
  const brokenFiles = testResults.filter(
    file => file.status === 'failed' && !file.assertionResults.some(test => test.status === 'failed'),
  ).length;
  const skipped = count('pending', 'skipped', 'todo', 'disabled');
  const line = `${count('passed')} passed, ${count('failed') + brokenFiles} failed`;
  return skipped > 0 ? `${line}, ${skipped} skipped` : line;
}
