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
    'dockerfile-checks',
    'helm-checks',
  ],
  chaos: [],
  bench: ['mlflow-3.17.2'],
};
/** What the bench compares with nginx. */
const BESIDE_NGINX = ['proxy-load', 'proxy-bytes'];
/** What chaos does with MLflow's own client. */
const WITH_CLIENT = 'proxy';

async function main([command, ...args]) {
  if (!Object.hasOwn(PYTHONS, command ?? '')) throw new Advice(USAGE);
  const pythons = needsClient(command, args) ? ['mlflow-3.17.2'] : PYTHONS[command];
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

function needsClient(command, args) {
  return command === 'chaos' && (args.length === 0 || args.includes(WITH_CLIENT));
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
