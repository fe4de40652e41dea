import { ERROR_CODES } from '../../src/domain/errors.ts';
import { BREAKER_STATES, STATUSES } from '../../src/domain/outcome.ts';
import { METRICS } from './tables.ts';

/** What an expression may hold besides metrics, labels and numbers. */
const FUNCTIONS = [
  ...[
    'sum',
    'min',
    'max',
    'avg',
    'count',
    'topk',
    'rate',
    'increase',
    'delta',
    'changes',
    'resets',
    'absent',
  ],
  ...[
    'time',
    'clamp_min',
    'clamp_max',
    'histogram_quantile',
    'max_over_time',
    'min_over_time',
    'avg_over_time',
  ],
  ...[
    'sum_over_time',
    'count_over_time',
    'last_over_time',
    'vector',
    'scalar',
    'abs',
    'round',
    'label_replace',
  ],
];
const GROUPINGS = ['by', 'without', 'on', 'ignoring', 'group_left', 'group_right'];
const OPERATORS = ['and', 'or', 'unless', 'bool', 'offset'];
/** Prometheus itself adds them. */
const OF_TARGETS = ['job', 'instance'];
/** Labels whose values are a closed list. */
const VALUES: Readonly<Record<string, readonly string[]>> = {
  status: [...STATUSES, 'stopped'],
  code: ['', ...ERROR_CODES],
  state: BREAKER_STATES,
  to: BREAKER_STATES,
};

/** The labels of every series, by its name. */
export const SERIES: ReadonlyMap<string, readonly string[]> = new Map(
  METRICS.flatMap(({ name, type, labels }): [string, readonly string[]][] =>
    type === 'histogram'
      ? [
          [name, labels],
          [`${name}_bucket`, [...labels, 'le']],
          [`${name}_sum`, labels],
          [`${name}_count`, labels],
        ]
      : [[name, labels]],
  ),
);

const TOKEN =
  /\s+|"(?:\\.|[^"\\])*"|[a-zA-Z_:][\w:]*|\d+(?:\.\d+)?(?:[smhdwy]\d*)*|[()[\]{},:@]|=~|!~|[=!<>]=|[-+*/%^<>=]/y;
const CLOSING: Readonly<Record<string, string>> = { '(': ')', '[': ']', '{': '}' };

/** What is wrong with an expression of Prometheus over our metrics. */
export function expressionFaults(expression: string): readonly string[] {
  const tokens = tokensOf(expression);
  if (typeof tokens === 'string') return [tokens];
  const faults: string[] = balanceFaults(tokens);
  const named = tokens.filter(token => SERIES.has(token));
  if (named.length === 0) faults.push('names no metric');
  let metric = '';
  for (let at = 0; at < tokens.length; at++) {
    const [token = '', next] = [tokens[at], tokens[at + 1]];
    if (GROUPINGS.includes(token) && next === '(') {
      const end = tokens.indexOf(')', at);
      const labels = tokens.slice(at + 2, end).filter(label => label !== ',');
      const known = named.flatMap(name => SERIES.get(name) ?? []);
      faults.push(
        ...labels.filter(label => !isLabel(label, known)).map(label => `no metric here has ${label}`),
      );
      at = end;
    } else if (token === '{') {
      const end = tokens.indexOf('}', at);
      faults.push(...matcherFaults(tokens.slice(at + 1, end), metric));
      at = end < 0 ? tokens.length : end;
    } else if (/^[a-zA-Z_:]/.test(token)) {
      const isFunction = FUNCTIONS.includes(token) && (next === '(' || GROUPINGS.includes(next ?? ''));
      if (SERIES.has(token)) metric = token;
      else if (!isFunction && !OPERATORS.includes(token) && !GROUPINGS.includes(token))
        faults.push(`${token} is no metric`);
    }
  }
  return faults;
}

function tokensOf(expression: string): readonly string[] | string {
  const tokens: string[] = [];
  for (let at = 0; at < expression.length; ) {
    TOKEN.lastIndex = at;
    const token = TOKEN.exec(expression)?.[0];
    if (token === undefined) return `is not understood from here: ${expression.slice(at)}`;
    if (token.trim() !== '') tokens.push(token);
    at += token.length;
  }
  return tokens;
}

function balanceFaults(tokens: readonly string[]): string[] {
  const open: string[] = [];
  for (const token of tokens) {
    const closing = CLOSING[token];
    if (closing !== undefined) open.push(closing);
    else if (Object.values(CLOSING).includes(token) && open.pop() !== token)
      return [`has a ${token} too many`];
  }
  return open.map(closing => `lacks a ${closing}`);
}

/** @param tokens what stands between the braces */
function matcherFaults(tokens: readonly string[], metric: string): readonly string[] {
  const known = SERIES.get(metric) ?? [];
  const faults: string[] = [];
  for (let at = 0; at < tokens.length; at += 4) {
    const [label = '', operator = '', quoted = '', comma = ','] = tokens.slice(at, at + 4);
    if (!['=', '!=', '=~', '!~'].includes(operator) || !quoted.startsWith('"') || comma !== ',')
      return [...faults, `{${tokens.join('')}} is not understood`];
    if (!isLabel(label, known)) faults.push(`${metric} has no ${label}`);
    const value = quoted.slice(1, -1);
    const values = operator.endsWith('~') ? value.split('|') : [value];
    const isClosed = Object.hasOwn(VALUES, label) && values.every(one => /^[\w-]*$/.test(one));
    const strange = isClosed ? values.filter(one => VALUES[label]?.includes(one) !== true) : [];
    faults.push(...strange.map(one => `${label} is never ${one}`));
  }
  return faults;
}

function isLabel(label: string, known: readonly string[]): boolean {
  return known.includes(label) || OF_TARGETS.includes(label);
}
