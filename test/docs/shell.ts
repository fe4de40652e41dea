/** One program that a line of a shell starts, or the variables that it sets. */
export interface Command {
  /** As it stands in the text. */
  readonly text: string;
  /** From the block's first line, which is 0. */
  readonly line: number;
  /** `NAME=value` before the program. */
  readonly env: readonly (readonly [string, string])[];
  /** The program and its arguments, without quotes. */
  readonly words: readonly string[];
  /** Whether something else reads what it writes, or a file does. */
  readonly isPiped: boolean;
}

const OPERATOR = /^(?:&&|\|\||\||;|>>|>|\n)/;
const WORD = /^(?:\\.|'[^']*'|"(?:\\.|[^"\\])*"|\$\([^()]*\)|[^\s'"\\;&|<>()`#]|(?<=[^\s])#)+/s;

interface Draft {
  words: string[];
  readonly start: number;
}

/**
 * The commands of a script, those inside of `$(…)` before the one that takes what they give.
 * @throws Error where it is written in a way that is not understood here
 */
export function commandsOf(script: string): readonly Command[] {
  const commands: Command[] = [];
  let draft: Draft | null = null;
  let rest = script;
  const at = () => script.length - rest.length;
  const end = (isPiped: boolean) => {
    if (draft !== null && draft.words.length > 0) commands.push(commandOf(draft, script, at(), isPiped));
    draft = null;
  };
  while (rest !== '') {
    const blank = /^(?:[ \t]|\\\n)+|^#[^\n]*/.exec(rest)?.[0];
    if (blank !== undefined) {
      rest = rest.slice(blank.length);
      continue;
    }
    const operator = OPERATOR.exec(rest)?.[0];
    if (operator?.startsWith('>')) {
      // The file that it is written to is the next word.
      const target: string | undefined = /^>>? *\S+/.exec(rest)?.[0];
      end(true);
      rest = rest.slice(target?.length ?? operator.length);
    } else if (operator !== undefined) {
      end(operator === '|');
      rest = rest.slice(operator.length);
    } else {
      const word = WORD.exec(rest)?.[0];
      if (word === undefined) throw new Error(`is not understood from here: ${rest.split('\n')[0]}`);
      for (const [, inner = ''] of word.matchAll(/\$\(([^()]*)\)/g)) {
        commands.push(
          ...commandsOf(inner).map(found => ({ ...found, line: lineOf(script, at()), isPiped: true })),
        );
      }
      draft ??= { words: [], start: at() };
      draft.words.push(unquoted(word));
      rest = rest.slice(word.length);
    }
  }
  end(false);
  return commands;
}

function commandOf({ words, start }: Draft, script: string, to: number, isPiped: boolean): Command {
  const first = words.findIndex(word => !/^[A-Za-z_]\w*=/.test(word));
  const isSetting = words[0] === 'export' || first < 0;
  const count = first < 0 ? words.length : first;
  const pairs = (words[0] === 'export' ? words.slice(1) : words.slice(0, count)).map(pairOf);
  return {
    text: script.slice(start, to).trim(),
    line: lineOf(script, start),
    env: pairs,
    words: isSetting ? [] : words.slice(count),
    isPiped,
  };
}

function pairOf(word: string): readonly [string, string] {
  const equals = word.indexOf('=');
  if (equals < 0) throw new Error(`exports ${word} without a value`);
  return [word.slice(0, equals), word.slice(equals + 1)];
}

function lineOf(script: string, at: number): number {
  return script.slice(0, at).split('\n').length - 1;
}

function unquoted(word: string): string {
  return word.replaceAll(
    /'([^']*)'|"((?:\\.|[^"\\])*)"|\\(.)/gs,
    (_, single?: string, double?: string, escaped?: string) =>
      single ?? double?.replaceAll(/\\(["\\$`])/g, '$1') ?? escaped ?? '',
  );
}
