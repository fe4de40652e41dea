import type { Kind } from './kinds.ts';

/** One row of the table of options. */
export interface OptionSpec<T, D = T> {
  /** The environment variable. The flag and the key of the YAML file follow from it; see `flagOf` and `keyOf`. */
  readonly name: string;
  readonly kind: Kind<T>;
  readonly fallback: D;
  /** The default in words, where `fallback` does not show it. */
  readonly shown?: string;
  readonly meaning: string;
  /** Why this default. */
  readonly why?: string;
  /** Never shown, and without a flag: every user of a machine sees every command line. */
  readonly secret?: true;
  /** An address that may hold credentials, which are not shown. */
  readonly holdsCredentials?: true;
  /** Of the environment alone, and read in lower case first, as curl does it. */
  readonly environmentOnly?: true;
  /** Not in the YAML file, since it names it. */
  readonly notInFile?: true;
}

export type AnyOption = OptionSpec<unknown, unknown>;

/** A row, with the types of its value and of its default. */
export function option<T, const D>(spec: OptionSpec<T, D>): OptionSpec<T, D> {
  return spec;
}

/** A day: no wait is longer. */
export const MAX_SECONDS = 86_400;

const lowered = (name: string): string => name.replace(/^SIDECAR_/, '').toLowerCase();

/** `reload_deadline_s` for SIDECAR_RELOAD_DEADLINE_S; null where the YAML file cannot hold the option. */
export function keyOf(spec: AnyOption): string | null {
  return spec.environmentOnly === true || spec.notInFile === true ? null : lowered(spec.name);
}

/** `--reload-deadline-s` for SIDECAR_RELOAD_DEADLINE_S; null where there is no flag. */
export function flagOf(spec: AnyOption): string | null {
  return spec.environmentOnly === true || spec.secret === true
    ? null
    : `--${lowered(spec.name).replaceAll('_', '-')}`;
}

/** Every way to write an option, for a fault about one that nobody wrote. */
export function waysToWrite(spec: AnyOption): string {
  const flag = flagOf(spec);
  return flag === null ? spec.name : `${spec.name} or ${flag}`;
}
