import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { expect, test } from 'vitest';
import { packageVersion } from '../../src/config/version.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const KINDS = ['Added', 'Changed', 'Deprecated', 'Removed', 'Fixed', 'Security'];

const [, ...releases] = (await readFile(join(ROOT, 'CHANGELOG.md'), 'utf8')).split(/^## /m);

test('the changelog begins with this version', () => {
  expect(releases[0]).toMatch(new RegExp(`^\\[${packageVersion().replaceAll('.', '\\.')}\\] - `));
});

test('every release has its version, its date unless it is to come, and what changed, by kind', () => {
  for (const [n, release] of releases.entries()) {
    const date = n === 0 ? String.raw`(Unreleased|\d{4}-\d\d-\d\d)` : String.raw`\d{4}-\d\d-\d\d`;
    expect(release).toMatch(new RegExp(String.raw`^\[\d+\.\d+\.\d+\] - ${date}\n`));
    const [, ...parts] = release.split(/^### /m);
    expect(parts.length).toBeGreaterThan(0);
    for (const part of parts) {
      const [kind, ...entries] = part.split(/\n+(?=- )/);
      expect(KINDS).toContain(kind);
      expect(entries.length).toBeGreaterThan(0);
    }
  }
});
