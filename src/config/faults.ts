import { type Raw, textOf } from './raw.ts';
import type { AnyOption } from './spec.ts';

/** What is wrong with one option. */
export interface Fault {
  /** As the user wrote it: the flag, the variable, or the key with its file. */
  readonly option: string;
  /** Null where there is none, and for secrets. */
  readonly value: string | null;
  /** What is wrong and what is allowed. */
  readonly message: string;
}

const MAX_SHOWN = 200;

/** One line for the operator. */
export function formatFault({ option, value, message }: Fault): string {
  return value === null ? `${option} ${message}` : `${option}=${value} ${message}`;
}

/** A value as it may be shown: short, on one line, without credentials; null for a secret. */
export function shownValue(spec: AnyOption, raw: Raw): string | null {
  if (spec.secret === true) return null;
  const safe =
    spec.holdsCredentials === true && typeof raw === 'string'
      ? raw.replace(/^([a-z]+:\/\/)?.*@/is, '$1…@')
      : raw;
  const quoted = textOf(safe);
  return quoted.length > MAX_SHOWN ? `${quoted.slice(0, MAX_SHOWN)}…"` : quoted;
}
