import { execFile } from 'node:child_process';
import { cp, mkdir, stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { z } from 'zod';
import { argumentOf, type Instruction, pairsOf, type Stage } from '../support/dockerfile.ts';
import { type Inside, inside } from './sandbox.ts';

const execute = promisify(execFile);
const ExecFormSchema = z.array(z.string()).min(1);

type Values = Record<string, string>;

/** A stage as far as it is built: the last one's is the image. */
export interface Image {
  readonly root: string;
  readonly env: Values;
  readonly args: Values;
  readonly labels: Values;
  workdir: string;
  user: string;
  entrypoint: readonly string[];
  cmd: readonly string[];
  healthcheck: readonly string[];
}

export interface Builder {
  /** What COPY reads. */
  readonly context: string;
  readonly buildArgs: Readonly<Values>;
  /** Makes the root of a FROM. */
  readonly base: (from: string) => Promise<string>;
  /** What RUN gets beside what the Dockerfile sets: where to find packages. */
  readonly network: Pick<Inside, 'env' | 'lent'>;
}

/**
 * Does what the stages say, each in a root of its own, and gives the last one.
 * @throws Error on an instruction, a flag or a form that is not known here, and where one fails
 */
export async function buildImage(stages: readonly Stage[], builder: Builder): Promise<Image> {
  const built = new Map<string, Image>();
  let image: Image | undefined;
  for (const [n, [first, ...others]] of stages.entries()) {
    const [, from = '', name = String(n)] = /^(\S+)(?: AS (\w+))?$/.exec(first?.text ?? '') ?? [];
    image = emptyImage(await builder.base(from));
    for (const instruction of others) await follow(instruction, image, builder, built);
    built.set(name, image);
  }
  if (image === undefined) throw new Error('The Dockerfile has no stage.');
  return image;
}

function emptyImage(root: string): Image {
  const nothing = { entrypoint: [], cmd: [], healthcheck: [] };
  return { root, env: {}, args: {}, labels: {}, workdir: '/', user: '0:0', ...nothing };
}

type Built = ReadonlyMap<string, Image>;
type Follow = (instruction: Instruction, image: Image, builder: Builder, built: Built) => unknown;

const FOLLOW: Readonly<Record<string, Follow>> = {
  ARG: ({ text }, image, { buildArgs }) => Object.assign(image.args, argumentOf(text, buildArgs)),
  ENV: ({ text }, image) => Object.assign(image.env, pairsOf(text, image.args)),
  LABEL: ({ text }, image) => Object.assign(image.labels, pairsOf(text, { ...image.args, ...image.env })),
  WORKDIR: async ({ text }, image) => {
    image.workdir = resolve(image.workdir, text);
    await mkdir(join(image.root, image.workdir), { recursive: true });
  },
  USER: ({ text }, image) => {
    image.user = z
      .string()
      .regex(/^\d+:\d+$/)
      .parse(text);
  },
  ENTRYPOINT: ({ text }, image) => {
    image.entrypoint = execForm(text);
  },
  CMD: ({ text }, image) => {
    image.cmd = execForm(text);
  },
  HEALTHCHECK: ({ text }, image) => {
    image.healthcheck = execForm(text.replace(/^CMD /, ''));
  },
  COPY: copy,
  RUN: run,
};

const FLAGS: Readonly<Record<string, readonly string[]>> = {
  COPY: ['from'],
  HEALTHCHECK: ['interval', 'timeout', 'start-period'],
};

async function follow(instruction: Instruction, image: Image, builder: Builder, built: Built): Promise<void> {
  const { word, text, flags } = instruction;
  const one = FOLLOW[word];
  const others = Object.keys(flags).filter(name => !FLAGS[word]?.includes(name));
  if (one === undefined || others.length > 0) {
    throw new Error(`This is not understood: ${[word, ...others.map(name => `--${name}`), text].join(' ')}`);
  }
  await one(instruction, image, builder, built);
}

/** The form that no shell stands in, which would be process 1 and keep the signals to itself. */
function execForm(text: string): readonly string[] {
  return ExecFormSchema.parse(JSON.parse(text));
}

async function copy(
  { text, flags }: Instruction,
  image: Image,
  builder: Builder,
  built: Built,
): Promise<void> {
  const stage = flags['from'];
  const from = stage === undefined ? builder.context : built.get(stage)?.root;
  if (from === undefined) throw new Error(`There is no stage ${stage}.`);
  const paths = text.split(/ +/);
  const target = paths.pop() ?? '';
  const to = join(image.root, resolve(image.workdir, target));
  for (const path of paths) {
    const source = join(from, path);
    const isInto = target.endsWith('/') && !(await stat(source)).isDirectory();
    await cp(source, isInto ? join(to, basename(path)) : to, { recursive: true, verbatimSymlinks: true });
  }
}

async function run({ text }: Instruction, image: Image, { network }: Builder): Promise<void> {
  const { root, workdir, user } = image;
  const env = { HOME: '/root', ...network.env, ...image.args, ...image.env };
  const how = { user, workdir, env, ...(network.lent === undefined ? {} : { lent: network.lent }) };
  const [command = '', ...args] = await inside(root, ['sh', '-c', text], how);
  await execute(command, args);
}
