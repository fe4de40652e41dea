import { expect, test } from 'vitest';
import { parseExposition, sampleOf } from './exposition.ts';

const HEAD = '# HELP a_total What it is.\n# TYPE a_total counter\n';
const HISTOGRAM = '# HELP h What it is.\n# TYPE h histogram\n';

test('samples are read with their labels unescaped', () => {
  const found = parseExposition(`${HEAD}a_total{x="a\\"b\\\\n\\n",y=""} 1.5e+21\n`);
  expect(sampleOf(found, 'a_total', { y: '', x: 'a"b\\n\n' })).toBe(1.5e21);
  expect(sampleOf(found, 'a_total', { x: 'a' })).toBeNull();
});

const FAULTY: readonly (readonly [string, string, RegExp])[] = [
  ['an end without a line feed', `${HEAD}a_total 1`, /line feed/],
  ['a sample without a family', 'a_total 1\n', /family/],
  ['a sample of another family', `${HEAD}b_total 1\n`, /family/],
  ['TYPE without HELP', '# TYPE a_total counter\n', /HELP/],
  ['HELP without TYPE', `# HELP a_total x\n${HEAD}`, /TYPE/],
  ['a family twice', HEAD + HEAD, /Twice/],
  ['a counter without _total', '# HELP a x\n# TYPE a counter\n', /_total/],
  ['a gauge with it', '# HELP a_total x\n# TYPE a_total gauge\n', /_total/],
  ['a name with a hyphen', '# HELP a-b x\n# TYPE a-b gauge\n', /Not a name/],
  ['a series twice', `${HEAD}a_total{x="1",y="2"} 1\na_total{y="2",x="1"} 1\n`, /twice/],
  ['a quote that is not escaped', `${HEAD}a_total{x="a"b"} 1\n`, /labels/],
  ['a line feed that is not escaped', `${HEAD}a_total{x="a\nb"} 1\n`, /family/],
  ['a label twice', `${HEAD}a_total{x="1",x="2"} 1\n`, /labels/],
  ['a value that is not a number', `${HEAD}a_total NaN\n`, /number/],
  ['a counter below 0', `${HEAD}a_total -1\n`, /Below/],
  [
    'buckets that are not cumulative',
    `${HISTOGRAM}h_bucket{le="1"} 2\nh_bucket{le="+Inf"} 1\nh_count 1\n`,
    /cumulative/,
  ],
  ['buckets without the last', `${HISTOGRAM}h_bucket{le="1"} 1\nh_count 1\n`, /cumulative/],
  ['a count that the buckets do not hold', `${HISTOGRAM}h_bucket{le="+Inf"} 1\nh_count 2\n`, /hold all/],
];

test.each(FAULTY)('%s is refused', (_name, text, words) => {
  expect(() => parseExposition(text)).toThrow(words);
});
