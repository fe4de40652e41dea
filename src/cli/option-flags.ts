import { type Command, Option } from 'commander';
import { defaultOf } from '../config/describe.ts';
import { formatFault } from '../config/faults.ts';
import { loadOptions } from '../config/load.ts';
import type { Options } from '../config/options.ts';
import { type AnyOption, flagOf } from '../config/spec.ts';
import { OPTION_SPECS } from '../config/table.ts';
import { CommandFailure, USAGE } from './failure.ts';

export type Env = Readonly<Record<string, string | undefined>>;

export interface Configuration {
  readonly options: Options;
  readonly warnings: readonly string[];
  /** Whether the cache directory was set, and is not the default. */
  readonly namesCache: boolean;
}

const FLAGGED = OPTION_SPECS.flatMap(spec => {
  const flag = flagOf(spec);
  return flag === null ? [] : [{ spec, flag }];
});

/** Gives a command a flag for each option. */
export function addOptionFlags(command: Command): void {
  for (const { spec, flag } of FLAGGED) {
    command.addOption(new Option(`${flag} <value>`, helpOf(spec)).helpGroup('Configuration:'));
  }
  const others = OPTION_SPECS.filter(spec => flagOf(spec) === null).map(spec => spec.name);
  command.addHelpText(
    'after',
    `\nWithout a flag, since a command line is seen by all, or of the environment alone: ${others.join(', ')}.`,
  );
}

function helpOf(spec: AnyOption): string {
  const meaning = spec.meaning.replaceAll('`', '');
  return `${meaning} (${spec.name}; default: ${defaultOf(spec).replaceAll('`', '')})`;
}

/**
 * The options from the command's flags, the environment and the YAML file.
 * @throws CommandFailure with every fault
 */
export function optionsOf(command: Command, env: Env): Configuration {
  const given: Readonly<Record<string, unknown>> = command.opts();
  const flags: Record<string, string> = {};
  for (const { flag } of FLAGGED) {
    const value = given[new Option(flag).attributeName()];
    if (typeof value === 'string') flags[flag] = value;
  }
  const { options, faults, warnings, namesCache } = loadOptions({ flags, env });
  if (options !== null) return { options, warnings, namesCache };
  const count = faults.length === 1 ? 'one fault' : `${faults.length} faults`;
  const lines = [
    `the configuration has ${count}:`,
    ...faults.map(formatFault),
    ...warnings.map(text => `(${text})`),
  ];
  throw new CommandFailure(lines.join('\n  '), USAGE);
}
