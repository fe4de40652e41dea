export interface Instruction {
  readonly word: string;
  /** What follows the word and its flags. */
  readonly text: string;
  readonly flags: Readonly<Record<string, string>>;
}

/** A stage from its FROM on. */
type Stage = readonly Instruction[];

/** The stages of a Dockerfile, from first to last. */
export function readDockerfile(text: string): readonly Stage[] {
  const lines = text
    .replace(/^\s*#.*\n/gm, '')
    .replaceAll(/\\\n/g, '')
    .split('\n')
    .filter(line => line.trim() !== '');
  const stages: Instruction[][] = [];
  for (const instruction of lines.map(readInstruction)) {
    if (instruction.word === 'FROM') stages.push([]);
    stages.at(-1)?.push(instruction);
  }
  return stages;
}

function readInstruction(line: string): Instruction {
  const {
    word = '',
    flags = '',
    text = '',
  } = /^(?<word>[A-Z]+) +(?<flags>(?:--\S+ +)*)(?<text>.*)$/.exec(line)?.groups ?? {};
  const pairs = [...flags.matchAll(/--([\w-]+)=(\S+)/g)].map(([, name = '', value = '']) => [name, value]);
  return { word, text: text.trim(), flags: Object.fromEntries(pairs) };
}

/** The texts of one kind of instruction. */
export function textsOf(stage: Stage, word: string): readonly string[] {
  return stage.filter(instruction => instruction.word === word).map(({ text }) => text);
}
