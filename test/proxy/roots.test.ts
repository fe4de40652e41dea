import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { systemClock } from '../../src/domain/clock.ts';
import type { ArtifactRoot } from '../../src/domain/version.ts';
import { addressOf, isMlflows, placesOf } from '../../src/proxy/roots.ts';
import { StoredRoots } from '../../src/proxy/stored.ts';
import { commitAll, OWN, openStore } from '../store/support.ts';

const PREFIX = '~mlflow-sidecar~';

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

describe('the address of a root', () => {
  test('is where MLflow has it', () => {
    expect(addressOf(['mlflow-artifacts:/0/models/m-1/artifacts'])).toEqual([
      '0',
      'models',
      'm-1',
      'artifacts',
    ]);
    expect(addressOf(['mlflow-artifacts:/1/abc/artifacts/model.v2'])).toEqual([
      '1',
      'abc',
      'artifacts',
      'model.v2',
    ]);
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
  ])('says which one it is: %s', (...root) => {
    const [first, ...more] = root;
    const address = addressOf([first ?? '', ...more]);
    expect(address).toEqual([rewritten(root)]);
    expect(isMlflows(address)).toBe(false);
  });

  test('leads back to it, and to what is below it', () => {
    const path = fc.array(fc.constantFrom('MLmodel', 'data', 'a b', '%2e%2e'), { maxLength: 4 });
    const property = fc.property(anyRoot, path, (root, below) => {
      const address = addressOf(root);
      for (const segment of address) expect(encodeURIComponent(segment)).toBe(segment);
      expect(placesOf([...address, ...below])).toContainEqual({ root, path: below.join('/') });
    });
    fc.assert(property, { numRuns: 2_000 });
  });
});

describe('a path of the artifact server', () => {
  test('may be below of every root that is above it, the longest first', () => {
    expect(placesOf(['0', 'm-1', 'artifacts', 'MLmodel'])).toEqual([
      { root: ['mlflow-artifacts:/0/m-1/artifacts/MLmodel'], path: '' },
      { root: ['mlflow-artifacts:/0/m-1/artifacts'], path: 'MLmodel' },
      { root: ['mlflow-artifacts:/0/m-1'], path: 'artifacts/MLmodel' },
    ]);
  });

  test.each([[[]], [['0']]])('is below of none: %j', segments => {
    expect(placesOf(segments)).toEqual([]);
    expect(isMlflows(segments)).toBe(true);
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
    ['a root that has its own address', rewritten(['mlflow-artifacts:/0/m-1/artifacts'])],
    ['a root in other letters', `${rewritten(['s3://b/x'])}=`],
    ['a root with spaces in its JSON', `${PREFIX}${Buffer.from('[ "s3://b/x" ]').toString('base64url')}`],
  ])('that names %s is no place', (_, segment) => {
    expect(placesOf([segment, 'MLmodel'])).toEqual([]);
    expect(isMlflows([segment, 'MLmodel'])).toBe(false);
  });
});

test('whatever the path, what is found in the store is a file of its version, and none beside it', async () => {
  const { store } = await openStore();
  const files = { MLmodel: 'flavors: {}', 'data/weights.bin': 'weights', 'a b/100%.txt': 'percent' };
  const roots: readonly ArtifactRoot[] = [['mlflow-artifacts:/0/m-1'], ['file:///models/1']];
  const own = new Map<string, string>();
  for (const root of roots) {
    const { snapshot } = await commitAll(store, files, root);
    for (const [path, content] of Object.entries(files))
      own.set(join(store.layout.snapshot(snapshot), path), content);
  }
  const stored = new StoredRoots(systemClock);
  const atoms = [
    ...['0', 'm-1', ...roots.flatMap(addressOf), 'MLmodel', 'data', 'weights.bin', 'a b', '100%.txt'],
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
      rewritten(['/etc']),
    ],
  ];
  let found = 0;
  const hostile = fc.array(fc.constantFrom(...atoms), { maxLength: 6 });
  const below = fc.constantFrom([], ['MLmodel'], ['data', 'weights.bin'], ['a b', '100%.txt']);
  const segments = fc
    .tuple(fc.constantFrom([], ...roots.map(addressOf)), below, hostile)
    .map(parts => parts.flat());
  const property = fc.asyncProperty(segments, async path => {
    for (const place of placesOf(path)) {
      const version = await stored.find(store, OWN, place.root);
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
