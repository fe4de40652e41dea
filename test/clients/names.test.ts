import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { z } from 'zod';
import { formatModelUri, parseModelUri, refKey } from '../../src/domain/model-uri.ts';
import { encodeName } from '../../src/store/disk/names.ts';
import { outputOf, startPython } from './python.ts';

/** The canonical text, and the record's place under refs/; null for what is no model URI. */
type Place = readonly [string, string] | null;
const PlacesSchema = z.array(z.tuple([z.string(), z.string()]).nullable());

function placeOf(text: string): Place {
  try {
    const uri = parseModelUri(text);
    const { name, ref } = refKey(uri);
    return [formatModelUri(uri), `${encodeName(name)}/${encodeName(ref)}.json`];
  } catch {
    return null;
  }
}

async function placesByPython(texts: readonly string[]): Promise<readonly Place[]> {
  return PlacesSchema.parse(
    JSON.parse(await outputOf(startPython('sidecar_names.py'), JSON.stringify(texts))),
  );
}

const EXAMPLES: Readonly<Record<string, string | null>> = {
  'models:/churn/Production': 'churn/Production.json',
  'models:/churn/pRODUCTION': 'churn/Production.json',
  'models:/churn/none': 'churn/None.json',
  'models:/churn/Blue Green': 'churn/stage%3ABlue%20Green.json',
  'models:/churn/@champion': 'churn/stage%3A%40champion.json',
  'models:/churn@champion': 'churn/@champion.json',
  'models:/churn @ night (v2)@b@st': 'churn%20%40%20night%20%28v2%29%40b/@st.json',
  'models:/@churn/3': '@churn/3.json',
  'models:/churn/0042': 'churn/42.json',
  'models:/churn/LATEST': 'churn/latest.json',
  'models:/.hidden/1': '%2Ehidden/1.json',
  'models:/churn@..': 'churn/@%2E..json',
  'models:/...@.': '%2E../@%2E.json',
  'models:/käufer-日本-🦆/Staging': 'k%C3%A4ufer-%E6%97%A5%E6%9C%AC-%F0%9F%A6%86/Staging.json',
  'models:/m-abc_1/logged': 'm-abc_1/stage%3Alogged.json',
  'models:/m-abc_1': 'm-abc_1/logged.json',
  'runs:/e1/model//weights/': 'runs%3Ae1/model%2Fweights.json',
  'models:/churn/0': null,
  'models:/churn/2147483648': null,
  'models:/churn/ ': null,
  'models:/churn@\ufeff ': null,
  'models:/../1': null,
  'models:/a:b/1': null,
  'models:/churn/1/2': null,
  'models:/churn': null,
  'runs:/e1/../model': null,
  'runs:/e1/': null,
  'runs:/e 1/model': null,
  'models:/churn\u0085/1': null,
  'models:/\ud800/1': null,
  'Models:/churn/1': null,
  'mlflow-artifacts:/x': null,
  '': null,
};

/** Texts at the limits of lengths, where names are hashed and refused. */
const LONG = [199, 200, 201, 250, 251, 260, 499, 500, 501, 788, 800].flatMap(length => [
  `models:/${'a'.repeat(length)}/1`,
  `models:/m@${'a'.repeat(length)}`,
  `models:/${'ä'.repeat(Math.floor(length / 2))}/${' '.repeat(40)}x`,
  `models:/${'🦆'.repeat(Math.floor(length / 4))}@x`,
  `models:/${'a'.repeat(length - 40)}${'🦆'.repeat(20)}/1`,
  `models:/m-${'b'.repeat(length)}`,
  `runs:/${'c'.repeat(length)}/p`,
  `runs:/c/${'d/'.repeat(Math.floor(length / 2))}`,
]);

test('records lie where the sidecar puts them', async () => {
  expect(await placesByPython(Object.keys(EXAMPLES))).toEqual(
    Object.entries(EXAMPLES).map(([text, file]) => (file === null ? null : [placeOf(text)?.[0], file])),
  );
});

test('the helper and the sidecar read every URI alike', async () => {
  const piece = fc.oneof(
    fc.constantFrom('/', '//', '@', ':', '.', '..', '-', '_', '~', '%', '%2F', ' ', '\t', '\u00a0', '\ufeff'),
    fc.constantFrom(
      '0',
      '7',
      '007',
      '２',
      'Production',
      'STAGING',
      'archived',
      'none',
      'Latest',
      'm-',
      'ſ',
      'İ',
    ),
    fc.constantFrom('churn', 'K', 'é', 'e\u0301', 'ß', '日本', '🦆', '\ud83e', '\udd86', '\u2028', '\0'),
  );
  const rest = fc.array(piece, { maxLength: 6 }).map(pieces => pieces.join(''));
  const scheme = fc.constantFrom(
    'models:/',
    'models:/m-1',
    'models:/name/',
    'models:/name@',
    'runs:/',
    'runs:/e1/',
  );
  const drawn = fc.sample(fc.tuple(scheme, rest), 5_000).map(parts => parts.join(''));
  const texts = [...Object.keys(EXAMPLES), ...LONG, ...drawn];
  const expected = texts.map(placeOf);
  expect(expected.filter(place => place !== null).length).toBeGreaterThan(1_000);
  expect(expected.filter(place => place === null).length).toBeGreaterThan(500);
  const found = await placesByPython(texts);
  const different = texts.flatMap((text, n) =>
    JSON.stringify(found[n]) === JSON.stringify(expected[n])
      ? []
      : [{ text, found: found[n], expected: expected[n] }],
  );
  expect(different).toEqual([]);
});
