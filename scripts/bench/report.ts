/** One figure and whether it is good enough. */
export interface Verdict {
  readonly name: string;
  readonly what: string;
  readonly value: number;
  readonly limit: number;
  /** `×`, `ms` or `MB`. */
  readonly unit: string;
  readonly ok: boolean;
}

/** @param limit what the value may be at most */
export function atMost(name: string, what: string, value: number, limit: number, unit: string): Verdict {
  return { name, what, value, limit, unit, ok: value <= limit };
}

/** @param limit what the value must be at least */
export function atLeast(name: string, what: string, value: number, limit: number, unit: string): Verdict {
  return { name, what, value, limit, unit, ok: value >= limit };
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

/** The value below which so many of a hundred lie. */
export function percentile(values: readonly number[], percent: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor((sorted.length * percent) / 100))] ?? Number.NaN;
}

export function table(verdicts: readonly Verdict[]): string {
  const rows = verdicts.map(({ name, what, value, limit, unit, ok }) => [
    ok ? '✔' : '✖',
    name,
    what,
    `${shown(value)} ${unit}`,
    `${shown(limit)} ${unit}`,
  ]);
  const all = [['', 'case', 'figure', 'found', 'limit'], ...rows];
  const widths = [0, 1, 2, 3, 4].map(at => Math.max(...all.map(row => row[at]?.length ?? 0)));
  return all.map(row => row.map((cell, at) => cell.padEnd(widths[at] ?? 0)).join('  ')).join('\n');
}

function shown(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toFixed(2);
}
