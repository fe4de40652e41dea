import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { systemClock } from '../../src/domain/clock.ts';
import type { ArtifactRoot, VersionRoot } from '../../src/domain/version.ts';
import { addressAtMlflow, addressOf, atMlflow, placesOf } from '../../src/proxy/roots.ts';
import { StoredRoots } from '../../src/proxy/stored.ts';
import { commitAll, OWN, ofVersion, openStore } from '../store/support.ts';

const PREFIX = '~mlflow-sidecar~';

/** The address of a version in another text than its own. */
function rewritten(root: unknown): string {
  return `${PREFIX}${Buffer.from(JSON.stringify(root)).toString('base64url')}`;
}

const anyRoot: fc.Arbitrary<ArtifactRoot> = fc.oneof(
  fc
    .array(fc.constantFrom('0', 'm-1', 'artifacts', 'a b', '..', '.', '', '100%', 'é', '~x'), {
      maxLength: 8,
    })
    .map((segments): ArtifactRoot => [`mlflow-artifacts:/${segments.join('/')}`]),
  fc.tuple(fc.string({ unit: 'grapheme' }), fc.string({ unit: 'binary' })),
  fc.constantFrom<ArtifactRoot>(
    ['s3://bucket/a b'],
    ['file:///models/1'],
    ['mlflow-artifacts://other:5000/0/m-1'],
  ),
);

describe('the address of a version', () => {
  test.each(['0/models/m-1/artifacts', '1/abc/artifacts/model.v2'])(
    'leads to where MLflow has it, where MLflow has it: %s',
    path => {
      const root: ArtifactRoot = [`mlflow-artifacts:/${path}`];
      expect(addressAtMlflow(root)).toEqual(path.split('/'));
      expect(atMlflow([...addressOf(ofVersion(root)), 'MLmodel'])?.join('/')).toBe(`${path}/MLmodel`);
    },
  );

  test('is another for the next version of the same root', () => {
    const root: ArtifactRoot = ['mlflow-artifacts:/0/run/artifacts/model'];
    expect(addressOf({ root, version: '1' })).not.toEqual(addressOf({ root, version: '2' }));
  });

  test.each([
    ['s3://bucket/model'],
    ['mlflow-artifacts://other:5000/0/m-1'],
    ['mlflow-artifacts:/alone'],
    ['mlflow-artifacts:/0/../m-1'],
    ['mlflow-artifacts:/0//m-1'],
    // A client decodes what stands in an address for a file, and not for a directory.
    ['mlflow-artifacts:/0/with space/artifacts'],
    ['mlflow-artifacts:/0/100%/artifacts'],
    ['mlflow-artifacts:/0/é/artifacts'],
    [`mlflow-artifacts:/${PREFIX}/x`],
    [`mlflow-artifacts:/${Array(33).fill('x').join('/')}`],
    ['mlflow-artifacts:/0/run/artifacts', 'mlflow-artifacts:/0/models/m-1/artifacts'],
  ])('leads to no path of MLflow’s: %s', (...root) => {
    const [first, ...more] = root;
    const wanted = ofVersion([first ?? '', ...more]);
    const address = addressOf(wanted);
    expect(address).toEqual([rewritten([wanted.version, ...root])]);
    expect(atMlflow(address)).toBeNull();
  });

  test('leads back to it, and to what is below it', () => {
    const path = fc.array(fc.constantFrom('MLmodel', 'data', 'a b', '%2e%2e'), { maxLength: 4 });
    const property = fc.property(anyRoot, path, (root, below) => {
      const { version } = ofVersion(root);
      const address = addressOf({ root, version });
      for (const segment of address) expect(encodeURIComponent(segment)).toBe(segment);
      expect(placesOf([...address, ...below])).toContainEqual({ root, version, path: below.join('/') });
    });
    fc.assert(property, { numRuns: 2_000 });
  });
});

describe('a path of the artifact server', () => {
  test('may be below of every root that is above it, the longest first', () => {
    expect(placesOf(['0', 'm-1', 'artifacts', 'MLmodel'])).toEqual([
      { root: ['mlflow-artifacts:/0/m-1/artifacts/MLmodel'], version: null, path: '' },
      { root: ['mlflow-artifacts:/0/m-1/artifacts'], version: null, path: 'MLmodel' },
      { root: ['mlflow-artifacts:/0/m-1'], version: null, path: 'artifacts/MLmodel' },
    ]);
  });

  test.each([[[]], [['0']]])('is below of none: %j', segments => {
    expect(placesOf(segments)).toEqual([]);
    expect(atMlflow(segments)).toEqual(segments);
  });

  test('of thousands of segments is looked for in a few places', () => {
    const places = placesOf(Array(8_000).fill('x'));
    expect(places).toHaveLength(31);
    expect(places[0]?.root[0]).toHaveLength('mlflow-artifacts:/'.length + 63);
  });

  test.each([
    ['no JSON', `${PREFIX}x`],
    ['nothing', PREFIX],
    ['no list', rewritten('file:///etc')],
    ['an empty list', rewritten([])],
    ['a list of something else', rewritten(['file:///etc', 1])],
    ['a version without a root', rewritten(['1'])],
    ['a root in other letters', `${rewritten(['1', 's3://b/x'])}=`],
    [
      'a root with spaces in its JSON',
      `${PREFIX}${Buffer.from('[ "1", "s3://b/x" ]').toString('base64url')}`,
    ],
  ])('that names %s is no place', (_, segment) => {
    expect(placesOf([segment, 'MLmodel'])).toEqual([]);
    expect(atMlflow([segment, 'MLmodel'])).toBeNull();
  });
});

test('whatever the path, what is found in the store is a file of its version, and none beside it', async () => {
  const { store } = await openStore();
  const files = { MLmodel: 'flavors: {}', 'data/weights.bin': 'weights', 'a b/100%.txt': 'percent' };
  const roots: readonly ArtifactRoot[] = [['mlflow-artifacts:/0/m-1'], ['file:///models/1']];
  const own = new Map<string, string>();
  const versions: readonly VersionRoot[] = roots.map(ofVersion);
  for (const root of roots) {
    const { snapshot } = await commitAll(store, files, root);
    for (const [path, content] of Object.entries(files))
      own.set(join(store.layout.snapshot(snapshot), path), content);
  }
  const stored = new StoredRoots(systemClock);
  const atoms = [
    ...['0', 'm-1', ...versions.flatMap(addressOf), 'MLmodel', 'data', 'weights.bin', 'a b', '100%.txt'],
    ...[
      '..',
      '.',
      '',
      '../..',
      'data/weights.bin',
      '%2e%2e',
      '\\',
      '\0',
      '/etc/passwd',
      '__proto__',
      'constructor',
      rewritten(['1', '/etc']),
    ],
  ];
  let found = 0;
  const hostile = fc.array(fc.constantFrom(...atoms), { maxLength: 6 });
  const below = fc.constantFrom([], ['MLmodel'], ['data', 'weights.bin'], ['a b', '100%.txt']);
  const segments = fc
    .tuple(fc.constantFrom([], ...versions.map(addressOf)), below, hostile)
    .map(parts => parts.flat());
  const property = fc.asyncProperty(segments, async path => {
    for (const place of placesOf(path)) {
      const version = await stored.find(store, OWN, { ...place, version: place.version ?? '' });
      const file = version?.files.get(place.path);
      if (version === null || file === undefined) continue;
      found++;
      const at = join(store.layout.snapshot(version.snapshot), place.path);
      expect(own.get(at)).toBe(await readFile(at, 'utf8'));
    }
  });
  await fc.assert(property, { numRuns: 3_000 });
  expect(found).toBeGreaterThan(100);
});
