import { readFileSync } from 'node:fs';
import { Enums, Models, Serialize, Spec } from '@cyclonedx/cyclonedx-library';
import { z } from 'zod';
import type { Bundled } from './bundled.ts';

const LockfileSchema = z.object({
  packages: z.record(z.string(), z.looseObject({ integrity: z.string().optional() })),
});
type Lockfile = z.infer<typeof LockfileSchema>;

const INTEGRITY = /^sha512-(?<digest>\S+)$/;

/**
 * A CycloneDX document, as JSON: the product, what is bundled in it, and which of that imports which.
 * The same packages make the same document: it holds no time and no serial number.
 * @param lockfile the path of the package-lock.json by which they were installed; the digests are its
 */
export function sbomOf(product: Bundled, packages: readonly Bundled[], lockfile: string): string {
  const locked = LockfileSchema.parse(JSON.parse(readFileSync(lockfile, 'utf8')));
  const components = new Map(packages.map(bundled => [bundled.dir, componentOf(bundled, locked)]));
  const application = componentOf(product, locked, Enums.ComponentType.Application);
  for (const { dir, imports } of [product, ...packages]) {
    const component = dir === product.dir ? application : components.get(dir);
    for (const other of imports) {
      const imported = components.get(other);
      if (imported !== undefined) component?.dependencies.add(imported.bomRef);
    }
  }
  const bom = new Models.Bom({
    metadata: new Models.Metadata({ component: application }),
    components: new Models.ComponentRepository(components.values()),
  });
  const normalizers = new Serialize.JSON.Normalize.Factory(Spec.Spec1dot6);
  const text = new Serialize.JsonSerializer(normalizers).serialize(bom, { sortLists: true, space: 2 });
  return `${text}\n`;
}

function componentOf(
  { dir, manifest }: Bundled,
  locked: Lockfile,
  type = Enums.ComponentType.Library,
): Models.Component {
  const { name, version, license } = manifest;
  const [, group, own = name] = /^(@[^/]+)\/(.+)$/.exec(name) ?? [];
  const purl = `pkg:npm/${name.replace('@', '%40')}@${version}`;
  return new Models.Component(type, own, {
    bomRef: purl,
    ...(group === undefined ? {} : { group }),
    version,
    purl,
    licenses: new Models.LicenseRepository([new Models.SpdxLicense(license)]),
    hashes: new Models.HashDictionary(hashesOf(dir, locked)),
  });
}

/** Of the tarball that npm unpacked. */
function hashesOf(dir: string, { packages }: Lockfile): readonly Models.Hash[] {
  const at = dir.indexOf('/node_modules/');
  const integrity = at < 0 ? undefined : packages[dir.slice(at + 1)]?.integrity;
  const digest = INTEGRITY.exec(integrity ?? '')?.groups?.['digest'];
  return digest === undefined
    ? []
    : [[Enums.HashAlgorithm['SHA-512'], Buffer.from(digest, 'base64').toString('hex')]];
}
