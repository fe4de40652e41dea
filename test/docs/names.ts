import { OPTION_SPECS } from '../../src/config/table.ts';
import { codeOf } from './markdown.ts';

const ASSIGNED = /(?<![\w$])((?:SIDECAR|MLFLOW)_[A-Z_]*[A-Z])=("[^"]*"|'[^']*'|\S+)/g;
/** `gc --dry-run`, perhaps after the program's name. */
const COMMAND = /^(?:mlflow-sidecar )?([a-z]+)(?= |$)/;

/** What is wrong with the values that a text gives to options. */
export function valueFaults(text: string): readonly string[] {
  return [...text.matchAll(ASSIGNED)].flatMap(([, name = '', value = '']) => {
    const fault = optionFault(name, value.replaceAll(/^(["'])(.*)\1$/g, '$2'));
    return fault === null ? [] : [fault];
  });
}

/** Why this is no value of the option; null where it is one, or where it is no option. */
export function optionFault(name: string, value: string): string | null {
  const parsed = OPTION_SPECS.find(spec => spec.name === name)?.kind.parse(value);
  return parsed === undefined || !('fault' in parsed) ? null : `${name}=${value} ${parsed.fault}`;
}

/** Flags that a row of a table names, and that are not the command's that it is about. */
export function rowFaults(
  line: string,
  flagsOf: ReadonlyMap<string, ReadonlySet<string>>,
): readonly string[] {
  const [first = '', ...others] = line.startsWith('| `') ? codeOf(line) : [];
  const command = COMMAND.exec(first)?.[1];
  const known = command === undefined ? undefined : flagsOf.get(command);
  if (known === undefined) return [];
  const flags = [first, ...others].flatMap(code => code.match(/(?<![\w-])--[a-z][\w-]*/g) ?? []);
  return flags.filter(flag => !known.has(flag)).map(flag => `${command} takes no ${flag}`);
}
