import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import type { Bundled } from '../../scripts/build/bundled.ts';
import { noticesOf } from '../../scripts/build/licences.ts';

/** Packages as npm installs them. */
async function installed(
  packages: Readonly<Record<string, { readonly license: string; readonly file?: string }>>,
): Promise<readonly Bundled[]> {
  const root = await mkdtemp(join(tmpdir(), 'sidecar-licences-'));
  onTestFinished(() => rm(root, { recursive: true, force: true }));
  return Promise.all(
    Object.entries(packages).map(async ([name, { license, file }]) => {
      const dir = join(root, name);
      await mkdir(dir);
      await writeFile(join(dir, 'index.js'), '');
      if (file !== undefined) await writeFile(join(dir, file), `The licence of ${name}.\n\n`);
      return { dir, manifest: { name, version: '1.0.0', license }, imports: new Set<string>() };
    }),
  );
}

test('the texts of the licences are put together, each below its package', async () => {
  const packages = await installed({
    left: { license: 'MIT', file: 'LICENSE' },
    right: { license: 'ISC', file: 'licence.md' },
  });
  expect(noticesOf(packages)).toMatch(
    /\n\nleft 1\.0\.0 \(MIT\)\n=+\n\nThe licence of left\.\n\n\nright 1\.0\.0 \(ISC\)\n=+\n\nThe licence of right\.\n$/,
  );
});

test.each(['GPL-3.0-only', 'MIT OR GPL-3.0-only', 'UNLICENSED', 'SEE LICENSE IN LICENSE'])(
  'a package under %s may not be bundled',
  async license => {
    const packages = await installed({
      good: { license: 'MIT', file: 'LICENSE' },
      bad: { license, file: 'LICENSE' },
    });
    expect(() => noticesOf(packages)).toThrow(`bad 1.0.0 (${license}): this licence is not one of `);
    expect(() => noticesOf(packages)).not.toThrow('good');
  },
);

test('a package that brings no text of its licence may not be bundled', async () => {
  const packages = await installed({ bad: { license: 'MIT' } });
  expect(() => noticesOf(packages)).toThrow('bad 1.0.0 (MIT): it brings no text of its licence');
});
