import { join } from 'node:path';
import type { Plugin } from 'rolldown';
import { type Bundled, bundledPackages } from './bundled.ts';
import { noticesOf } from './licences.ts';
import { sbomOf } from './sbom.ts';

/**
 * Puts beside the bundle what is in it of others: `THIRD_PARTY_LICENSES.txt` with the texts that their licences ask for, and
 * `sbom.cdx.json`. The build fails where a licence is not allowed.
 * @param root the directory of package.json and package-lock.json
 */
export function thirdParty(root: string): Plugin {
  return {
    name: 'third-party',
    generateBundle(_, bundle) {
      const all = bundledPackages(this, bundle);
      const product = all.get(root);
      if (product === undefined) throw new Error(`The bundle holds nothing of ${root}.`);
      const others = [...all.values()].filter(({ dir }) => dir !== root).toSorted(byName);
      this.emitFile({ type: 'asset', fileName: 'THIRD_PARTY_LICENSES.txt', source: noticesOf(others) });
      const sbom = sbomOf(product, others, join(root, 'package-lock.json'));
      this.emitFile({ type: 'asset', fileName: 'sbom.cdx.json', source: sbom });
    },
  };
}

function byName({ manifest: a }: Bundled, { manifest: b }: Bundled): number {
  return a.name.localeCompare(b.name, 'en') || a.version.localeCompare(b.version, 'en');
}
