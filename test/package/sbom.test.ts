import { execFile } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { expect, onTestFinished, test } from 'vitest';
import { z } from 'zod';

const ROOT = resolve(import.meta.dirname, '../..');
const DIST = join(ROOT, 'dist');
const SBOM = join(DIST, 'sbom.cdx.json');
const execute = promisify(execFile);

const SbomSchema = z.object({
  specVersion: z.string(),
  metadata: z.object({ component: z.object({ 'bom-ref': z.string(), version: z.string() }) }),
  components: z.array(
    z.object({
      'bom-ref': z.string(),
      group: z.string().optional(),
      name: z.string(),
      version: z.string(),
      purl: z.string(),
      licenses: z.array(z.object({ license: z.object({ id: z.string() }) })).length(1),
      hashes: z.array(z.object({ alg: z.literal('SHA-512'), content: z.string().length(128) })).length(1),
    }),
  ),
  dependencies: z.array(z.object({ ref: z.string(), dependsOn: z.array(z.string()).default([]) })),
});
const ManifestSchema = z.object({
  version: z.string(),
  license: z.string().default(''),
  devDependencies: z.record(z.string(), z.string()).default({}),
});
const SourceMapSchema = z.object({ sources: z.array(z.string()) });

const text = await readFile(SBOM, 'utf8');
const sbom = SbomSchema.parse(JSON.parse(text));
const nameOf = ({ group, name }: { group?: string | undefined; name: string }) =>
  group === undefined ? name : `${group}/${name}`;

async function manifestOf(dir: string) {
  return ManifestSchema.parse(JSON.parse(await readFile(join(dir, 'package.json'), 'utf8')));
}

/** The packages of which the bundle's source maps name a file. */
async function mappedPackages(): Promise<readonly string[]> {
  const files = (await readdir(DIST, { recursive: true })).filter(file => file.endsWith('.map'));
  const maps = await Promise.all(files.map(file => readFile(join(DIST, file), 'utf8')));
  const sources = maps.flatMap(map => SourceMapSchema.parse(JSON.parse(map)).sources);
  const names = sources.map(source => /.*\/node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(source)?.[1]);
  return [...new Set(names.filter(name => name !== undefined))].toSorted();
}

/** Rejects with what is wrong with it by the schema of CycloneDX. */
async function validate(path: string): Promise<void> {
  const library = createRequire(import.meta.url).resolve('@cyclonedx/cyclonedx-library/package.json');
  const schemas = join(dirname(library), 'res', 'schema');
  await execute(join(ROOT, '.cache/venv/python-checks/bin/check-jsonschema'), [
    ...['--base-uri', `${pathToFileURL(schemas).href}/`],
    ...['--schemafile', join(schemas, `bom-${sbom.specVersion}.SNAPSHOT.schema.json`), path],
  ]);
}

test('the bill of materials is valid by CycloneDX', () => validate(SBOM));

test('the validation refuses a licence that SPDX does not know', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'sidecar-sbom-'));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  await writeFile(join(dir, 'sbom.cdx.json'), text.replace('"id": "MIT"', '"id": "MITT"'));
  await expect(validate(join(dir, 'sbom.cdx.json'))).rejects.toMatchObject({
    stdout: expect.stringContaining('MITT'),
  });
});

test('it lists every package that is in the bundle, and no other', async () => {
  expect(sbom.components.map(nameOf).toSorted()).toEqual(await mappedPackages());
});

test('it gives the version and the licence that each package says, and notices give its text', async () => {
  const notices = await readFile(join(DIST, 'THIRD_PARTY_LICENSES.txt'), 'utf8');
  for (const component of sbom.components) {
    const { version, license } = await manifestOf(join(ROOT, 'node_modules', nameOf(component)));
    expect({ version: component.version, license: component.licenses[0]?.license.id }).toEqual({
      version,
      license,
    });
    expect(notices).toContain(`\n${nameOf(component)} ${version} (${license})\n=`);
  }
});

test('the program depends on what src imports, and all else on that', async () => {
  const edges = new Map(sbom.dependencies.map(({ ref, dependsOn }) => [ref, dependsOn]));
  const root = sbom.metadata.component['bom-ref'];
  const { version, devDependencies } = await manifestOf(ROOT);
  expect(root).toBe(`pkg:npm/mlflow-sidecar@${version}`);
  const direct = sbom.components.filter(({ purl }) => edges.get(root)?.includes(purl)).map(nameOf);
  expect(direct).toEqual(expect.arrayContaining(['express', 'pino', 'undici', 'zod']));
  for (const name of direct) expect(Object.keys(devDependencies)).toContain(name);
  const reached = new Set([root]);
  for (const ref of reached) for (const next of edges.get(ref) ?? []) reached.add(next);
  expect([...reached].toSorted()).toEqual([root, ...sbom.components.map(({ purl }) => purl)].toSorted());
});
