import { existsSync, readFileSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { Advice, ROOT, run, step } from './child.mjs';

const BIN = join(ROOT, 'node_modules', '.bin');
const MAJOR = 24;

/** `npm ci`, unless every package of the lockfile is there in its version already. */
export async function ensurePackages() {
  if (isInstalled()) return;
  await step(
    'Installing the npm packages of package-lock.json (npm ci)',
    'npm',
    ['ci', '--include=dev', '--no-audit', '--no-fund', '--loglevel=error'],
    'npm ci failed: check that npm reaches its registry ("npm ping"), then run the same command again.',
  );
}

/** npm writes its own account of what it installed last of all, so that a half-finished install has none. */
function isInstalled() {
  const account = join(ROOT, 'node_modules', '.package-lock.json');
  if (!existsSync(account)) return false;
  const { packages: installed } = JSON.parse(readFileSync(account, 'utf8'));
  const { packages: wanted } = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8'));
  return Object.entries(wanted).every(
    ([path, { optional, version }]) =>
      path === '' || optional === true || installed[path]?.version === version,
  );
}

/** Node 24, which the project runs on: this one, or the one that came with the packages. */
let node = process.execPath;

export async function ensureNode() {
  if (Number.parseInt(process.versions.node, 10) >= MAJOR) return;
  node = join(BIN, 'node');
  const { code, output } = await run(node, ['--version']);
  if (code === 0 && output.startsWith(`v${MAJOR}.`)) return;
  throw new Advice(
    `This is Node ${process.versions.node} and node_modules/.bin/node does not answer as Node ${MAJOR}: install Node ${MAJOR} (https://nodejs.org), or remove node_modules and run again with npm's install scripts allowed.`,
  );
}

/** Runs a script, or a program of node_modules, on Node 24, showing its output; gives the exit code. */
export async function runOnNode(args, env = {}) {
  const { code } = await run(node, args, { show: true, env: { ...withTools(), ...env } });
  return code;
}

export async function runTool(tool, args) {
  const { code } = await run(join(BIN, tool), args, { show: true, env: withTools() });
  return code;
}

/** The programs in node_modules start with `env node`. */
function withTools() {
  return { PATH: [dirname(node), BIN, process.env.PATH].join(delimiter) };
}
