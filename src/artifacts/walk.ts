import { SidecarError } from '../domain/errors.ts';
import { mapBounded } from '../policy/bounded.ts';
import { isSliceOver, nextSlice } from '../policy/slices.ts';
import type { Call } from '../upstream/mlflow-client.ts';
import { childOf, MAX_PATHS_BYTES, type Place, ROOT, unsafe } from './paths.ts';
import { type ArtifactSource, MAX_ENTRIES } from './source.ts';

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
  const directories = new Set<string>();
  const size = { entries: 0, bytes: 0 };
  for (const source of sources) {
    const tree = await walkOne(source, size, call);
    for (const path of tree.directories) directories.add(path);
    for (const [path, file] of tree.files) {
      merged.set(path, file);
      if (isSliceOver()) await nextSlice();
    }
  }
  // Two sources may disagree on what a name is.
  for (const path of merged.keys()) {
    if (directories.has(path)) throw unsafe(path, 'is a file and a directory');
    if (isSliceOver()) await nextSlice();
  }
  assertIsModel(merged);
  return [...merged.values()];
}

interface Tree {
  readonly files: Map<string, ListedFile>;
  readonly directories: Set<string>;
}

async function walkOne(source: ArtifactSource, size: Size, call: Call): Promise<Tree> {
  const stop = new AbortController();
  const signal = AbortSignal.any([call.signal, stop.signal]);
  const files = new Map<string, ListedFile>();
  const directories = new Set<string>();
  const visit = async (dir: Place): Promise<readonly Place[]> => {
    const found: Place[] = [];
    for (const entry of await source.list(dir.path, { ...call, signal })) {
      if (isSliceOver()) await nextSlice();
      const place = childOf(dir, entry.name);
      const { path } = place;
      if (files.has(path) || directories.has(path)) throw unsafe(path, 'is listed twice');
      grow(size, place);
      if (entry.isDir) {
        directories.add(path);
        found.push(place);
      } else files.set(path, { path, size: entry.size, source });
    }
    return found;
  };
  try {
    for (let level: readonly Place[] = [ROOT]; level.length > 0; ) {
      level = (await mapBounded(level, LISTINGS_IN_FLIGHT, visit)).flat();
    }
    return { files, directories };
  } catch (error) {
    stop.abort(error);
    throw error;
  }
}

interface Size {
  entries: number;
  bytes: number;
}

/** Over all sources. */
function grow(size: Size, { bytes }: Place): void {
  size.entries += 1;
  size.bytes += bytes;
  if (size.entries > MAX_ENTRIES)
    throw new SidecarError('unsafe_path', `The version lists more than ${MAX_ENTRIES} artifacts.`);
  if (size.bytes <= MAX_PATHS_BYTES) return;
  const limit = `${MAX_PATHS_BYTES / 1024 / 1024} MiB`;
  throw new SidecarError(
    'unsafe_path',
    `The paths of the version’s artifacts take more than ${limit} together.`,
    {
      hint: 'Log the model again with fewer files, or with shorter names of directories.',
    },
  );
}

function assertIsModel(files: ReadonlyMap<string, ListedFile>): void {
  if (files.has('MLmodel')) return;
  const what =
    files.size === 0 ? 'The version has no artifacts.' : 'The version’s artifacts hold no MLmodel file.';
  throw new SidecarError('artifact_missing', what, {
    hint: 'The artifacts were deleted, or never finished uploading, or the URI names no model. Log the model again.',
  });
}
