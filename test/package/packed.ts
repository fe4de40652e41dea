import { execFile } from 'node:child_process';
import { cp, mkdir, readdir, symlink } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';

const ROOT = resolve(import.meta.dirname, '../..');
const execute = promisify(execFile);

/** What a publish is made from, as in a clone in which nothing is built. */
const SOURCES = [
  ...['package.json', 'package-lock.json', 'rolldown.config.ts', 'scripts/build', 'src'],
  ...['README.md', 'LICENSE', 'CHANGELOG.md', 'docs', 'clients', 'examples'],
];

export interface Packed {
  readonly tarball: string;
  /** The paths of the files in it. */
  readonly files: readonly string[];
}

/** Has npm build and pack the package, in `dir`. */
export async function pack(dir: string): Promise<Packed> {
  const source = join(dir, 'source');
  for (const path of SOURCES) await cp(join(ROOT, path), join(source, path), { recursive: true });
  await symlink(join(ROOT, 'node_modules'), join(source, 'node_modules'));
  const out = join(dir, 'packed');
  await mkdir(out);
  await execute('npm', ['pack', '--pack-destination', out], { cwd: source });
  const [name = ''] = await readdir(out);
  const tarball = join(out, name);
  const { stdout } = await execute('tar', ['--list', '--file', tarball]);
  const files = stdout.trim().split('\n');
  return { tarball, files: files.map(path => path.replace(/^package\//, '')) };
}
