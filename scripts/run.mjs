// What `npm run demo`, `npm run bench` and `npm test` run: brings what a fresh clone is missing, then starts one of them.
// It runs before node_modules is there, on the machine's own Node (18 or newer): nothing but Node's own modules.
import { Advice, endChildrenOnSignal } from './lib/child.mjs';
import { bench, build, demo, lint, vitest } from './lib/commands.mjs';
import { ensureNode, ensurePackages } from './lib/node.mjs';
import { ensurePython } from './lib/python.mjs';

const USAGE = 'Usage: node scripts/run.mjs demo | bench [cases] | test [what vitest takes]';
const COMMANDS = ['demo', 'bench', 'test'];

async function main([command, ...args]) {
  if (!COMMANDS.includes(command)) throw new Advice(USAGE);
  await ensurePackages();
  await ensureNode();
  await ensurePython(command === 'test' ? ['mlflow-3.17.2', 'mlflow-2.22.5'] : ['mlflow-3.17.2']);
  await build();
  if (command === 'demo') return demo();
  if (command === 'bench') return bench(args);
  if (args.length === 0) await lint();
  return vitest(args);
}

endChildrenOnSignal();
try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  console.error(error instanceof Advice ? `✖ ${error.message}` : error);
  process.exitCode = 1;
}
