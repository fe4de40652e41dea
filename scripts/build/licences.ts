import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Bundled } from './bundled.ts';

/** SPDX identifiers of licences that ask for nothing but that their text and the names of the authors go along. */
const ALLOWED: readonly string[] = ['0BSD', 'Apache-2.0', 'BSD-2-Clause', 'BSD-3-Clause', 'ISC', 'MIT'];

const LICENCE_FILE = /^(licen[cs]e|copying|notice)\b/i;

/**
 * What the licences of these packages ask for: their texts, each after the name of its package.
 * @throws Error that names each package whose licence is not allowed, or whose text is not there
 */
export function noticesOf(packages: readonly Bundled[]): string {
  const faults: string[] = [];
  const notices = packages.map(({ dir, manifest: { name, version, license } }) => {
    const title = `${name} ${version} (${license})`;
    const texts = licenceTexts(dir);
    if (!ALLOWED.includes(license)) faults.push(`${title}: this licence is not one of ${ALLOWED.join(', ')}`);
    if (texts.length === 0) faults.push(`${title}: it brings no text of its licence`);
    return [title, '='.repeat(title.length), '', ...texts].join('\n');
  });
  if (faults.length > 0) throw new Error(`These may not be bundled:\n${faults.join('\n')}`);
  return `This program holds the packages below, each under its own licence.\n\n${notices.join('\n\n')}`;
}

function licenceTexts(dir: string): readonly string[] {
  return readdirSync(dir)
    .filter(name => LICENCE_FILE.test(name))
    .toSorted()
    .map(name => `${readFileSync(join(dir, name), 'utf8').trim()}\n`);
}
