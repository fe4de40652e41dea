import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join, resolve } from 'node:path';
import { text } from 'node:stream/consumers';
import { z } from 'zod';
import type { Manifest } from './helm.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const PYTHON = join(ROOT, '.cache', 'venv', 'helm-checks', 'bin', 'python');
const SCRIPT = join(import.meta.dirname, 'python', 'validate_manifests.py');
/** The oldest that the charts are for, and the newest whose schemas there are. */
const VERSIONS = ['1.29', '1.37'];

/**
 * Holds manifests to the schemas of Kubernetes, which refuse what they do not know, and those of the Prometheus operator's kinds to
 * the ones recorded in test/helm/crds. Gives what is wrong, a line each.
 */
export async function faultsOf(
  manifests: readonly Manifest[],
  versions: readonly string[] = VERSIONS,
): Promise<readonly string[]> {
  const child = spawn(PYTHON, [SCRIPT], { stdio: ['pipe', 'pipe', 'inherit'] });
  child.stdin.end(JSON.stringify({ versions, manifests }));
  const [output] = await Promise.all([text(child.stdout), once(child, 'exit')]);
  return z.array(z.string()).parse(JSON.parse(output));
}
