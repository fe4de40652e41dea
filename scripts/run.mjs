// What `npm run demo`, `npm test`, `npm run bench` and `npm run chaos` run: brings what a fresh clone is missing, then starts one of them.
// It runs before node_modules is there, on the machine's own Node (18 or newer): nothing but Node's own modules.
import { Advice, allOf, endChildrenOnSignal } from './lib/child.mjs';
import { bench, build, chaos, demo, lint, vitest } from './lib/commands.mjs';
import { ensureHelm } from './lib/helm.mjs';
import { ensureNginx } from './lib/nginx.mjs';
import { ensureNode, ensurePackages } from './lib/node.mjs';
import { ensurePython } from './lib/python.mjs';

const USAGE = 'Usage: node scripts/run.mjs demo | chaos [runs] | bench [cases] | test [what vitest takes]';
const PYTHONS = {
  demo: ['mlflow-3.17.2'],
  test: [
    'mlflow-3.17.2',
    'mlflow-2.22.5',
    'airflow-3.3.2',
    'airflow-2.11.2',
    'python-checks',
    'green-threads',
    'dockerfile-checks',
    'helm-checks',
  ],
  bench: ['mlflow-3.17.2'],
};
/** What the bench compares with nginx. */
const BESIDE_NGINX = ['proxy-load', 'proxy-bytes'];
/** What chaos needs of them, by the names of its runs; without a name it does not do the last ones. */
const CHAOS_PYTHONS = {
  proxy: ['mlflow-3.17.2'],
  limits: ['mlflow-3.17.2'],
  airflow: ['mlflow-3.17.2', 'mlflow-2.22.5', 'airflow-3.3.2', 'airflow-2.11.2'],
};

async function main([command, ...args]) {
  if (command !== 'chaos' && !Object.hasOwn(PYTHONS, command ?? '')) throw new Advice(USAGE);
  const pythons = command === 'chaos' ? chaosPythons(args) : PYTHONS[command];
  await allOf([
    built(command === 'test' && args.length === 0),
    pythons.length > 0 && ensurePython(pythons),
    command === 'test' && ensureHelm(),
    needsNginx(command, args) && ensureNginx(),
  ]);
  if (command === 'demo') return demo();
  if (command === 'chaos') return chaos(args);
  if (command === 'bench') return bench(args);
  return vitest(args);
}

async function built(isLinted) {
  await ensurePackages();
  await ensureNode();
  await build();
  if (isLinted) await lint();
}

function chaosPythons(runs) {
  const named = runs.length === 0 ? ['proxy'] : runs.filter(run => Object.hasOwn(CHAOS_PYTHONS, run));
  return [...new Set(named.flatMap(run => CHAOS_PYTHONS[run]))];
}

function needsNginx(command, args) {
  return command === 'bench' && (args.length === 0 || args.some(name => BESIDE_NGINX.includes(name)));
}

endChildrenOnSignal();
try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  console.error(error instanceof Advice ? `✖ ${error.message}` : error);
  process.exitCode = 1;
}
