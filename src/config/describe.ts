import { type AnyOption, flagOf, keyOf } from './spec.ts';
import { OPTION_SPECS } from './table.ts';

/** The table of options for docs/configuration.md, in Markdown. */
export function describeOptions(): string {
  const rows = OPTION_SPECS.map(spec => `| ${cells(spec).join(' | ')} |`);
  return ['| variable | flag | in the file | default | meaning |', '|---|---|---|---|---|', ...rows].join(
    '\n',
  );
}

function cells(spec: AnyOption): string[] {
  const why = spec.why === undefined ? '' : ` (${spec.why})`;
  const fallback = defaultOf(spec);
  const meaning = `${spec.meaning} Allowed: ${spec.kind.allowed}.`;
  return [code(spec.name), code(flagOf(spec)), code(keyOf(spec)), `${fallback}${why}`, meaning].map(cell =>
    cell.replaceAll('|', '\\|'),
  );
}

function code(text: string | null): string {
  return text === null ? '' : `\`${text}\``;
}

/** The default in words, also for the command's help. */
export function defaultOf({ shown, fallback }: AnyOption): string {
  if (shown !== undefined) return shown;
  return typeof fallback === 'string' || typeof fallback === 'number' || typeof fallback === 'boolean'
    ? String(fallback)
    : 'none';
}
