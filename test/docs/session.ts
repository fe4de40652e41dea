import { containerOf } from './containers.ts';
import type { Block, Document } from './markdown.ts';
import type { Session } from './scene.ts';
import { type Command, commandsOf } from './shell.ts';

/** What a shell has that was just opened, on a machine where a sidecar runs. */
const FRESH: Session = { env: {}, server: { kind: 'stand' } };

/** What the blocks of the same section before this one have done. */
export function sessionBefore(block: Block, { blocks, prose }: Document): Session {
  const from = prose.slice(0, block.line).findLastIndex(line => /^#{1,6} /.test(line));
  const before = blocks.filter(({ language, line }) => language === 'sh' && line > from && line < block.line);
  return before.flatMap(({ text }) => commandsOf(text)).reduce(after, FRESH);
}

/** What is after a command that succeeded. */
export function after(session: Session, { words, env }: Command): Session {
  const [program, subcommand] = words;
  const own = Object.fromEntries(env.map(([name, value]) => [name, withOutputs(value)]));
  if (program === undefined) return { ...session, env: { ...session.env, ...own } };
  if (program === 'docker' && subcommand === 'run') {
    const { name, given } = containerOf(words.slice(2), session.env);
    return { ...session, server: { kind: 'started', env: given, name } };
  }
  if (program === 'mlflow-sidecar' && subcommand === 'serve' && !words.includes('--check'))
    return { ...session, server: { kind: 'started', env: { ...session.env, ...own }, name: null } };
  return program === 'helm' ? { ...session, server: { kind: 'cluster' } } : session;
}

/** Where the output of a command stands in a value, there is a word. */
export function withOutputs(value: string): string {
  return value.replaceAll(/\$\([^()]*\)/g, 'output');
}
