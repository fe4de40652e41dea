import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { z } from 'zod';
import { ROOT } from './markdown.ts';
import { routeFault } from './routes.ts';

const execute = promisify(execFile);
const PYTHON = join(ROOT, '.cache', 'venv', 'python-checks', 'bin', 'python');
const FAULTS = join(import.meta.dirname, 'python_faults.py');
const ExaminedSchema = z.array(z.object({ faults: z.array(z.string()), routes: z.array(z.string()) }));

/** What is wrong with each of these pieces of Python. */
export async function pythonFaults(texts: readonly string[]): Promise<readonly (readonly string[])[]> {
  const { stdout } = await execute(PYTHON, [FAULTS, JSON.stringify(texts)], { cwd: ROOT });
  return ExaminedSchema.parse(JSON.parse(stdout)).map(({ faults, routes }) => [
    ...faults,
    ...routes.map(routeFault).filter(fault => fault !== null),
  ]);
}
