import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';
import type { Fault } from './faults.ts';
import { readConfigFile } from './file.ts';
import type { Options } from './options.ts';
import { Reader, type Sources } from './reader.ts';
import type { AnyOption } from './spec.ts';
import { OPTIONS } from './table.ts';
import { unknownVariables } from './variables.ts';

/** What verifying a cache directory depends on. */
export const VERIFY_OPTIONS: readonly AnyOption[] = [OPTIONS.cacheDir, OPTIONS.config];
/** What collecting it depends on. */
export const COLLECT_OPTIONS: readonly AnyOption[] = [
  OPTIONS.cacheDir,
  OPTIONS.cacheMaxBytes,
  OPTIONS.config,
  OPTIONS.models,
  OPTIONS.maxStaleS,
];

/** What commands go by that work on a cache directory, and ask nobody. */
export type CacheOptions = Pick<Options, 'cacheDir' | 'cacheMaxBytes' | 'models' | 'maxStaleS'>;

export type Read<T> = { readonly warnings: readonly string[] } & (
  | { readonly options: T; readonly faults: null }
  | { readonly options: null; readonly faults: readonly Fault[] }
);

/** The directory alone; whatever is wrong with other options is not looked at. */
export function loadCacheDir(sources: Sources): Read<string> {
  return read(sources, reader => cacheDirOf(reader, sources.env));
}

/** Where a sidecar listens that has the same configuration; by its defaults where that is not right. */
export function loadAddress(sources: Sources): Pick<Options, 'host' | 'port'> {
  const reader = readerOf(sources);
  return { host: reader.get(OPTIONS.host), port: reader.get(OPTIONS.port) };
}

export function loadCacheOptions(sources: Sources): Read<CacheOptions> {
  return read(sources, reader => ({
    cacheDir: cacheDirOf(reader, sources.env),
    cacheMaxBytes: reader.get(OPTIONS.cacheMaxBytes),
    models: reader.get(OPTIONS.models).map(({ uri }) => uri),
    maxStaleS: reader.get(OPTIONS.maxStaleS),
  }));
}

function read<T>(sources: Sources, take: (reader: Reader) => T): Read<T> {
  const reader = readerOf(sources);
  const options = take(reader);
  const warnings = unknownVariables(sources.env);
  return reader.faults.length > 0
    ? { warnings, options: null, faults: reader.faults }
    : { warnings, options, faults: null };
}

/** With the YAML file that the sources name, if any. */
export function readerOf(sources: Sources): Reader {
  const reader = new Reader(sources);
  const path = reader.get(OPTIONS.config);
  if (path !== null) reader.useFile(path, readConfigFile(path, reader.nameOf(OPTIONS.config)));
  return reader;
}

export function cacheDirOf(reader: Reader, env: Sources['env']): string {
  return reader.get(OPTIONS.cacheDir) ?? defaultCacheDir(reader, env);
}

function defaultCacheDir(reader: Reader, env: Sources['env']): string {
  const { XDG_CACHE_HOME: xdg = '', HOME: home = '' } = env;
  // The specification has a relative path ignored.
  if (isAbsolute(xdg)) return join(xdg, 'mlflow-sidecar');
  try {
    return join(isAbsolute(home) ? home : homedir(), '.cache', 'mlflow-sidecar');
  } catch {
    reader.fault(OPTIONS.cacheDir, 'must be set, since this user has no home directory.');
    return '';
  }
}
