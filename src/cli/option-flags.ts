import { type Command, Option } from 'commander';
import type { Read } from '../config/cache.ts';
import { defaultOf } from '../config/describe.ts';
import { formatFault } from '../config/faults.ts';
import { loadOptions } from '../config/load.ts';
import type { Options } from '../config/options.ts';
import type { Sources } from '../config/reader.ts';
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

/** Gives a command a flag for each of the options. */
export function addOptionFlags(command: Command, specs: readonly AnyOption[] = OPTION_SPECS): void {
  for (const { spec, flag } of flagged(specs)) {
    command.addOption(new Option(`${flag} <value>`, helpOf(spec)).helpGroup('Configuration:'));
  }
  const others = specs.filter(spec => flagOf(spec) === null).map(spec => spec.name);
  if (others.length === 0) return;
  command.addHelpText(
    'after',
    `\nWithout a flag, since a command line is seen by all, or of the environment alone: ${others.join(', ')}.`,
  );
}

function flagged(specs: readonly AnyOption[]) {
  return specs.flatMap(spec => {
    const flag = flagOf(spec);
    return flag === null ? [] : [{ spec, flag }];
  });
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
  const loaded = loadOptions(sourcesOf(command, env));
  return { ...sound(loaded), namesCache: loaded.namesCache };
}

/**
 * What a command on the cache directory goes by, as `load` takes it from the same three; warnings go to standard error.
 * @throws CommandFailure with every fault
 */
export function cacheOptionsOf<T>(command: Command, env: Env, load: (sources: Sources) => Read<T>): T {
  const { options, warnings } = sound(load(sourcesOf(command, env)));
  for (const warning of warnings) process.stderr.write(`${warning}\n`);
  return options;
}

function sourcesOf(command: Command, env: Env): Sources {
  const given: Readonly<Record<string, unknown>> = command.opts();
  const flags: Record<string, string> = {};
  for (const { flag } of flagged(OPTION_SPECS)) {
    const value = given[new Option(flag).attributeName()];
    if (typeof value === 'string') flags[flag] = value;
  }
  return { flags, env };
}

function sound<T>({ options, faults, warnings }: Read<T>) {
  if (faults === null) return { options, warnings };
  const count = faults.length === 1 ? 'one fault' : `${faults.length} faults`;
  const lines = [
    `the configuration has ${count}:`,
    ...faults.map(formatFault),
    ...warnings.map(text => `(${text})`),
  ];
  throw new CommandFailure(lines.join('\n  '), USAGE);
}
