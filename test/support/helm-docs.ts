import { parse } from 'yaml';

/** One value of a chart: its keys joined by dots, its default, and what its comment says. */
export interface DocumentedValue {
  readonly path: string;
  readonly fallback: unknown;
  readonly meaning: string;
}

const INDENT = 2;
const COMMENT = /^ *# -- (?<text>.+)$/;
const MORE = /^ *# (?<text>\S.*)$/;
const KEY = /^(?<indent> *)(?<key>\w+):/;

/**
 * What helm-docs lists of a values.yaml: the values right above whose key stands a comment that begins with `# -- `. What is in such
 * a value is part of it.
 */
export function documentedValues(yaml: string): readonly DocumentedValue[] {
  const values: unknown = parse(yaml);
  const found: DocumentedValue[] = [];
  const path: string[] = [];
  let meaning = '';
  for (const line of yaml.split('\n')) {
    const { text } = COMMENT.exec(line)?.groups ?? {};
    const { text: more } = MORE.exec(line)?.groups ?? {};
    const { indent = '', key } = KEY.exec(line)?.groups ?? {};
    if (text !== undefined) meaning = text;
    else if (more !== undefined && meaning !== '') meaning += ` ${more}`;
    else if (key !== undefined) {
      path.splice(indent.length / INDENT, Number.POSITIVE_INFINITY, key);
      if (meaning !== '') found.push({ path: path.join('.'), fallback: valueAt(values, path), meaning });
      meaning = '';
    }
  }
  return found;
}

function valueAt(values: unknown, path: readonly string[]): unknown {
  return path.reduce<unknown>((value, key) => Object(value)[key], values);
}

/** The paths of all values: of what is no mapping, and of mappings with nothing in them. */
export function leavesOf(value: unknown, path: readonly string[] = []): readonly string[] {
  const isMapping = typeof value === 'object' && value !== null && !Array.isArray(value);
  const entries = isMapping ? Object.entries(value) : [];
  if (entries.length === 0) return [path.join('.')];
  return entries.flatMap(([key, inner]) => leavesOf(inner, [...path, key]));
}

/** The table for a README. */
export function tableOf(values: readonly DocumentedValue[]): string {
  const rows = values.map(
    ({ path, fallback, meaning }) =>
      `| \`${path}\` | \`${JSON.stringify(fallback)}\` | ${meaning.replaceAll('|', '\\|')} |`,
  );
  return ['| value | default | meaning |', '|---|---|---|', ...rows].join('\n');
}
