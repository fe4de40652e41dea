import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { OutputBundle, PluginContext } from 'rolldown';
import { z } from 'zod';

const ManifestSchema = z.looseObject({ name: z.string(), version: z.string(), license: z.string() });

/** A package of which the bundle holds at least one module. */
export interface Bundled {
  readonly dir: string;
  readonly manifest: z.infer<typeof ManifestSchema>;
  /** The directories of those that its modules import. */
  readonly imports: ReadonlySet<string>;
}

/**
 * The packages that are in the bundle, this one among them, by their directories.
 * @throws ZodError where one does not name itself, its version and its licence
 */
export function bundledPackages(context: PluginContext, bundle: OutputBundle): ReadonlyMap<string, Bundled> {
  const rendered = Object.values(bundle).flatMap(output => (output.type === 'chunk' ? output.moduleIds : []));
  const dirs = new Set(rendered.filter(isFile).map(packageDir));
  // A module that only passes on what others export is in no chunk, and says what its package imports all the same.
  const modulesOf = Map.groupBy([...context.getModuleIds()].filter(isFile), packageDir);
  const importsOf = (dir: string): readonly string[] =>
    (modulesOf.get(dir) ?? []).flatMap(id => {
      const { importedIds = [], dynamicallyImportedIds = [] } = context.getModuleInfo(id) ?? {};
      return [...importedIds, ...dynamicallyImportedIds].filter(isFile).map(packageDir);
    });
  return new Map(
    [...dirs].map(dir => {
      const others = importsOf(dir).filter(other => other !== dir && dirs.has(other));
      return [dir, { dir, manifest: readManifest(dir), imports: new Set(others) }];
    }),
  );
}

/** The bundler has modules of its own, and Node's. */
function isFile(id: string): boolean {
  return id.startsWith('/') && existsSync(id);
}

/** Packages have further package.json inside, which only say how a directory is to be read: those name nothing. */
function packageDir(file: string): string {
  let dir = dirname(file);
  while (!isPackage(dir)) {
    if (dir === dirname(dir)) throw new Error(`${file} belongs to no package.`);
    dir = dirname(dir);
  }
  return dir;
}

function isPackage(dir: string): boolean {
  const path = join(dir, 'package.json');
  return existsSync(path) && 'version' in JSON.parse(readFileSync(path, 'utf8'));
}

function readManifest(dir: string): Bundled['manifest'] {
  return ManifestSchema.parse(JSON.parse(readFileSync(join(dir, 'package.json'), 'utf8')));
}
