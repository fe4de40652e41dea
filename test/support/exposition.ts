const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;
const COMMENT = /^# (?<kind>HELP|TYPE) (?<name>\S+) (?<rest>.+)$/;
const SAMPLE = /^(?<name>[^\s{]+)(?:\{(?<labels>.*)\})? (?<value>\S+)$/s;
const LABEL = /(?<name>[a-zA-Z_][a-zA-Z0-9_]*)="(?<value>(?:[^"\\]|\\["\\n])*)"(?:,|$)/y;
const NUMBER = /^(?:[+-]Inf|-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)$/;

export interface Series {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface Family {
  readonly name: string;
  readonly type: string;
  readonly help: string;
  readonly series: readonly Series[];
}

type OpenFamily = Omit<Family, 'series'> & { readonly series: Series[] };

/** Prometheus' text format, read more strictly than Prometheus does. @throws Error naming the line */
export function parseExposition(text: string): ReadonlyMap<string, Family> {
  if (!text.endsWith('\n')) throw new Error('The text does not end with a line feed.');
  const families = new Map<string, OpenFamily>();
  const seen = new Set<string>();
  let help: { readonly name: string; readonly text: string } | null = null;
  let family: OpenFamily | null = null;
  for (const line of text.split('\n').filter(each => each !== '')) {
    const comment = COMMENT.exec(line)?.groups;
    if (comment?.['kind'] === 'HELP') {
      if (help !== null) throw new Error(`HELP without TYPE before: ${line}`);
      help = { name: comment['name'] ?? '', text: comment['rest'] ?? '' };
    } else if (comment !== undefined) {
      family = familyOf(line, comment['name'] ?? '', comment['rest'] ?? '', help);
      if (families.has(family.name)) throw new Error(`Twice: ${line}`);
      families.set(family.name, family);
      help = null;
    } else {
      const series = seriesOf(line, help === null ? family : null);
      const key = identityOf(series);
      if (seen.has(key)) throw new Error(`The same series twice: ${line}`);
      seen.add(key);
      family?.series.push(series);
    }
  }
  for (const each of families.values()) checkHistogram(each);
  return families;
}

function familyOf(
  line: string,
  name: string,
  type: string,
  help: { readonly name: string; readonly text: string } | null,
): OpenFamily {
  if (help?.name !== name) throw new Error(`TYPE without its HELP: ${line}`);
  if (!NAME.test(name)) throw new Error(`Not a name: ${line}`);
  if (!['counter', 'gauge', 'histogram'].includes(type)) throw new Error(`Not a type: ${line}`);
  if ((type === 'counter') !== name.endsWith('_total')) throw new Error(`_total is for counters: ${line}`);
  return { name, type, help: help.text, series: [] };
}

function seriesOf(line: string, family: OpenFamily | null): Series {
  const { name = '', labels = '', value = '' } = SAMPLE.exec(line)?.groups ?? {};
  if (family === null || !namesOf(family).includes(name))
    throw new Error(`Not of the family before: ${line}`);
  if (!NUMBER.test(value)) throw new Error(`Not a number: ${line}`);
  const number = Number(value.replace('Inf', 'Infinity'));
  if (family.type !== 'gauge' && number < 0) throw new Error(`Below 0: ${line}`);
  return { name, labels: labelsOf(line, labels), value: number };
}

function namesOf({ name, type }: OpenFamily): readonly string[] {
  return type === 'histogram' ? ['bucket', 'sum', 'count'].map(part => `${name}_${part}`) : [name];
}

function labelsOf(line: string, text: string): Readonly<Record<string, string>> {
  const labels = new Map<string, string>();
  for (LABEL.lastIndex = 0; LABEL.lastIndex < text.length; ) {
    const { name, value } = LABEL.exec(text)?.groups ?? {};
    if (name === undefined || value === undefined || labels.has(name)) throw new Error(`Not labels: ${line}`);
    const unescaped = value.replaceAll(/\\(.)/g, (_all, letter: string) => (letter === 'n' ? '\n' : letter));
    labels.set(name, unescaped);
  }
  return Object.fromEntries(labels);
}

/** Buckets are cumulative, and the last one holds all. */
function checkHistogram({ name, type, series }: OpenFamily): void {
  if (type !== 'histogram') return;
  const byLabels = Map.groupBy(series, ({ labels }) => identityOf({ name, labels: { ...labels, le: '' } }));
  for (const group of byLabels.values()) {
    const buckets = group.filter(each => each.name === `${name}_bucket`);
    const bounds = buckets.map(each => Number(each.labels['le']?.replace('Inf', 'Infinity')));
    const counts = buckets.map(each => each.value);
    const isSorted = (numbers: readonly number[]) =>
      numbers.every((each, i) => i === 0 || each >= (numbers[i - 1] ?? 0));
    const total = group.find(each => each.name === `${name}_count`)?.value;
    if (!isSorted(bounds) || !isSorted(counts) || bounds.at(-1) !== Number.POSITIVE_INFINITY)
      throw new Error(`The buckets of ${name} are not cumulative up to +Inf.`);
    if (counts.at(-1) !== total) throw new Error(`The buckets of ${name} do not hold all.`);
  }
}

/** The value of the one series with this name and exactly these labels; null where there is none. */
export function sampleOf(
  families: ReadonlyMap<string, Family>,
  name: string,
  labels: Series['labels'] = {},
): number | null {
  const wanted = identityOf({ name, labels });
  const all = [...families.values()].flatMap(family => family.series);
  return all.find(each => identityOf(each) === wanted)?.value ?? null;
}

function identityOf({ name, labels }: Pick<Series, 'name' | 'labels'>): string {
  const sorted = Object.keys(labels).toSorted();
  return JSON.stringify([name, ...sorted.map(key => [key, labels[key]])]);
}
