// What `npm run demo` and `npm test` run: brings what a fresh clone is missing, then starts the one or the other.
// It runs before node_modules is there, on the machine's own Node (18 or newer): nothing but Node's own modules.
import { Advice, endChildrenOnSignal } from './lib/child.mjs';
import { build, demo, lint, vitest } from './lib/commands.mjs';
import { ensureNode, ensurePackages } from './lib/node.mjs';
import { ensurePython } from './lib/python.mjs';

const USAGE = 'Usage: node scripts/run.mjs demo | node scripts/run.mjs test [what vitest takes]';

async function main([command, ...args]) {
  if (command !== 'demo' && command !== 'test') throw new Advice(USAGE);
  await ensurePackages();
  await ensureNode();
  await ensurePython(command === 'demo' ? ['mlflow-3.17.2'] : ['mlflow-3.17.2', 'mlflow-2.22.5']);
  await build();
  if (command === 'demo') return demo();
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
