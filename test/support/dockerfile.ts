export interface Instruction {
  readonly word: string;
  /** What follows the word and its flags. */
  readonly text: string;
  readonly flags: Readonly<Record<string, string>>;
}

/** A stage from its FROM on. */
export type Stage = readonly Instruction[];

type Values = Readonly<Record<string, string>>;

/**
 * The stages of a Dockerfile, from first to last. The arguments that stand before them are put into their FROM.
 * @throws Error on a line that is no instruction
 */
export function readDockerfile(text: string, buildArgs: Values = {}): readonly Stage[] {
  const lines = text
    .replace(/^\s*#.*\n/gm, '')
    .replaceAll(/\\\n/g, '')
    .split('\n')
    .filter(line => line.trim() !== '');
  const stages: Instruction[][] = [];
  const args: Record<string, string> = {};
  for (const instruction of lines.map(readInstruction)) {
    const { word, text: said } = instruction;
    if (word === 'FROM') stages.push([{ ...instruction, text: substituted(said, args) }]);
    else if (stages.length > 0) stages.at(-1)?.push(instruction);
    else if (word === 'ARG') Object.assign(args, argumentOf(said, buildArgs));
    else throw new Error(`${word} stands before the first FROM.`);
  }
  return stages;
}

function readInstruction(line: string): Instruction {
  const found = /^(?<word>[A-Z]+) +(?<flags>(?:--\S+ +)*)(?<text>.*)$/.exec(line)?.groups;
  if (found === undefined) throw new Error(`This is no instruction: ${line}`);
  const { word = '', flags = '', text = '' } = found;
  const pairs = [...flags.matchAll(/--([\w-]+)(?:=(\S+))?/g)].map(([, name = '', value = '']) => [
    name,
    value,
  ]);
  return { word, text: text.trim(), flags: Object.fromEntries(pairs) };
}

/** The name and value that an ARG makes: what the build is given, else its default; none without either. */
export function argumentOf(text: string, given: Values): Values {
  const { name = '', value } = /^(?<name>\w+)(?:=(?<value>.*))?$/.exec(text)?.groups ?? {};
  const known = given[name] ?? value;
  return known === undefined ? {} : { [name]: known };
}

/** With `${NAME}` replaced; by nothing where the name has no value. */
function substituted(text: string, values: Values): string {
  return text.replace(/\$\{(\w+)\}/g, (_, name: string) => values[name] ?? '');
}

/** What an ENV or a LABEL sets. */
export function pairsOf(text: string, values: Values = {}): Values {
  const pairs = text.matchAll(/([\w.-]+)=(?:"([^"]*)"|(\S*))/g);
  return Object.fromEntries(
    [...pairs].map(([, name = '', quoted, plain = '']) => [name, substituted(quoted ?? plain, values)]),
  );
}

/** The texts of one kind of instruction. */
export function textsOf(stage: Stage, word: string): readonly string[] {
  return stage.filter(instruction => instruction.word === word).map(({ text }) => text);
}
