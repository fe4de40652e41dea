import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { manifestOf } from '../domain/manifest.ts';
import { readIfThere } from '../store/disk/durable.ts';
import { isOurs } from './target.ts';
import { readTree, sha256 } from './tree.ts';

/** Says what fetch put into a directory, so that a later one may replace or keep it. */
export const MARKER = '.mlflow-sidecar.json';

const Stored = z.object({
  format: z.literal(1),
  model_uri: z.string(),
  version: z.string().nullable(),
  digest: z.string(),
  files: z.array(z.object({ path: z.string(), size: z.number(), sha256: z.string() })),
});

export type Marker = z.infer<typeof Stored>;

/** What is to be put into a directory. */
export interface Model {
  readonly snapshot: string;
  readonly uri: string;
  readonly version: string | null;
  /** Whether its files may be the snapshot's own: only where nothing else has or keeps them. */
  readonly mayLink: boolean;
}

/** A marker among the model's own files, as in a model that was logged from such a directory, is none of it. */
export async function filesOf(snapshot: string): Promise<readonly string[]> {
  return [...(await readTree(snapshot, name => name === MARKER)).files.keys()];
}

export async function markerOf({ snapshot, uri, version }: Model, signal: AbortSignal): Promise<Marker> {
  const found = [];
  for (const [path, size] of (await readTree(snapshot, name => name === MARKER)).files) {
    signal.throwIfAborted();
    found.push({ path, size, sha256: await sha256(join(snapshot, path)) });
  }
  const { files, digest } = manifestOf(found);
  return { format: 1, model_uri: uri, version, digest, files: [...files] };
}

export async function writeMarker(dir: string, marker: Marker): Promise<void> {
  await using handle = await open(join(dir, MARKER), 'wx');
  await handle.writeFile(`${JSON.stringify(marker)}\n`);
  await handle.chmod(0o444);
  await handle.sync();
}

/** Null where there is none, or what is there is none. */
export async function readMarker(dir: string): Promise<Marker | null> {
  try {
    return Stored.parse(JSON.parse((await readIfThere(join(dir, MARKER))) ?? ''));
  } catch {
    return null;
  }
}

/** `foreign` names what is not as the marker says; without it the directory may still lack files, after a crash. */
export async function inspect(
  dir: string,
  { files }: Marker,
): Promise<{ readonly foreign: string | null; readonly isWhole: boolean }> {
  const found = await readTree(dir, name => isOurs(name) || name === MARKER);
  const wanted = new Map(files.map(file => [file.path, file]));
  const foreign = (path: string) => ({ foreign: path, isWhole: false });
  if (found.others[0] !== undefined) return foreign(found.others[0]);
  for (const [path, size] of found.files) {
    const file = wanted.get(path);
    if (file?.size !== size || file.sha256 !== (await sha256(join(dir, path)))) return foreign(path);
  }
  return { foreign: null, isWhole: found.files.size === files.length };
}

/** The marker of a directory that holds this model whole; else null. */
export async function wholeIn(dir: string, uri: string): Promise<Marker | null> {
  const marker = await readMarker(dir);
  if (marker?.model_uri !== uri) return null;
  return (await inspect(dir, marker)).isWhole ? marker : null;
}
