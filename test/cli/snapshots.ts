import { chmodSync, chownSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { onTestFinished } from 'vitest';
import { MARKER, type Model } from '../../src/cli/marker.ts';
import { materialize } from '../../src/cli/materialize.ts';
import { prepareTarget } from '../../src/cli/target.ts';
import { directory } from './support.ts';

export const NOBODY = 65_534;
export const isRoot = process.getuid?.() === 0;
export const FILES = {
  MLmodel: 'flavors: {}\n',
  'data/model.pkl': 'bytes',
  'data/deep/x.bin': 'x'.repeat(10_000),
  'conda.yaml': '',
};

export type Files = Readonly<Record<string, string>>;

export function write(root: string, files: Files, mode = 0o444): string {
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), content, { mode });
  }
  return root;
}

export function snapshot(files: Files = FILES): string {
  const root = directory();
  chmodSync(root, 0o755);
  return write(join(root, 'snapshot'), files);
}

/** Every file below a directory but the marker, by path. */
export function contentOf(root: string): Record<string, string> {
  const entries = readdirSync(root, { recursive: true, withFileTypes: true }).filter(
    entry => entry.isFile() && entry.name !== MARKER,
  );
  return Object.fromEntries(
    entries.map(entry => {
      const path = join(entry.parentPath, entry.name);
      return [path.slice(root.length + 1), readFileSync(path, 'utf8')];
    }),
  );
}

export async function put(
  from: string,
  dir: string,
  { signal = new AbortController().signal, ...model }: Partial<Model> & { signal?: AbortSignal } = {},
): Promise<'put' | 'up_to_date'> {
  const given = { snapshot: from, uri: 'models:/a/Production', version: '1', mayLink: true, ...model };
  return materialize(given, await prepareTarget(dir), signal);
}

/**
 * A directory whose parent this user cannot write to, as that of a mount point; `act` runs as a user to whom that applies.
 */
export async function inMount<T>(act: (dir: string) => Promise<T>): Promise<T> {
  const parent = directory();
  const dir = join(parent, 'mount');
  mkdirSync(dir);
  if (isRoot) chownSync(dir, NOBODY, NOBODY);
  chmodSync(parent, 0o555);
  onTestFinished(() => chmodSync(parent, 0o755));
  if (isRoot) process.seteuid?.(NOBODY);
  try {
    return await act(dir);
  } finally {
    if (isRoot) process.seteuid?.(0);
  }
}
