import { execFile } from 'node:child_process';
import { cp, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const execute = promisify(execFile);

/**
 * Puts what .dockerignore lets through of `source` into `context`, for its owner alone, as in a clone under umask 077.
 * @throws Error on a pattern that is neither the first `*` nor a path that comes along after all
 */
export async function sendContext(source: string, context: string): Promise<void> {
  for (const path of keptPaths(await readFile(join(source, '.dockerignore'), 'utf8'))) {
    await cp(join(source, path), join(context, path), { recursive: true });
  }
  await execute('chmod', ['-R', 'go=', context]);
}

/** What .dockerignore lets through. */
export function keptPaths(text: string): readonly string[] {
  const [first, ...others] = text.trim().split('\n');
  const paths = others.map(line => /^!(?<path>[\w.-]+(?:\/[\w.-]+)*)$/.exec(line)?.groups?.['path'] ?? '');
  if (first !== '*' || paths.includes('')) throw new Error(`.dockerignore is not understood:\n${text}`);
  return paths;
}
