import pLimit from 'p-limit';
import { SidecarError } from '../domain/errors.ts';
import type { Call } from '../upstream/mlflow-client.ts';
import { childPath, unsafe } from './paths.ts';
import { type ArtifactSource, type Entry, MAX_ENTRIES } from './source.ts';

/** As many as files are fetched at once. */
const LISTINGS_IN_FLIGHT = 16;

/** A file that a listing names, with where to get it. */
export interface ListedFile {
  readonly path: string;
  readonly size: number | null;
  readonly source: ArtifactSource;
}

/**
 * Lists everything below the roots of `sources`, level by level; of two files at one path the later source's wins.
 * @throws SidecarError `unsafe_path`, `artifact_missing`, `mlflow_error`, or why a listing did not come
 */
export async function walk(sources: readonly ArtifactSource[], call: Call): Promise<readonly ListedFile[]> {
  const merged = new Map<string, ListedFile>();
  for (const source of sources) {
    for (const file of await walkOne(source, call)) merged.set(file.path, file);
  }
  const files = [...merged.values()];
  assertNoFileIsDirectory(files);
  assertIsModel(merged);
  return files;
}

async function walkOne(source: ArtifactSource, call: Call): Promise<readonly ListedFile[]> {
  const limit = pLimit(LISTINGS_IN_FLIGHT);
  const stop = new AbortController();
  const signal = AbortSignal.any([call.signal, stop.signal]);
  const files: ListedFile[] = [];
  const seen = new Set<string>();
  const visit = async (dir: string): Promise<readonly string[]> => {
    const directories: string[] = [];
    for (const entry of await source.list(dir, { ...call, signal })) {
      const path = newPath(seen, dir, entry);
      if (entry.isDir) directories.push(path);
      else files.push({ path, size: entry.size, source });
    }
    return directories;
  };
  try {
    for (let level: readonly string[] = ['']; level.length > 0; ) {
      level = (await Promise.all(level.map(dir => limit(visit, dir)))).flat();
    }
    return files;
  } catch (error) {
    stop.abort(error);
    throw error;
  }
}

function newPath(seen: Set<string>, dir: string, entry: Entry): string {
  const path = childPath(dir, entry.name);
  if (seen.has(path)) throw unsafe(path, 'is listed twice');
  seen.add(path);
  if (seen.size <= MAX_ENTRIES) return path;
  throw new SidecarError('unsafe_path', `The version lists more than ${MAX_ENTRIES} artifacts.`);
}

/** Two layers may disagree on what a name is. */
function assertNoFileIsDirectory(files: readonly ListedFile[]): void {
  const directories = new Set<string>();
  for (const { path } of files) {
    for (let slash = path.indexOf('/'); slash >= 0; slash = path.indexOf('/', slash + 1)) {
      directories.add(path.slice(0, slash));
    }
  }
  const both = files.find(file => directories.has(file.path));
  if (both !== undefined) throw unsafe(both.path, 'is a file and a directory');
}

function assertIsModel(files: ReadonlyMap<string, ListedFile>): void {
  if (files.has('MLmodel')) return;
  const what =
    files.size === 0 ? 'The version has no artifacts.' : 'The version’s artifacts hold no MLmodel file.';
  throw new SidecarError('artifact_missing', what, {
    hint: 'The artifacts were deleted, or never finished uploading, or the URI names no model. Log the model again.',
  });
}
