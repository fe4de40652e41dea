import { existsSync } from 'node:fs';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parse } from 'yaml';
import { z } from 'zod';
import { keyOf } from '../../src/config/spec.ts';
import { OPTION_SPECS } from '../../src/config/table.ts';
import { JobSchema } from '../../src/http/schemas.ts';
import { checkCommand } from './commands.ts';
import { type Block, type Document, ROOT } from './markdown.ts';
import { optionFault } from './names.ts';
import { expressionFaults } from './promql.ts';
import { pythonFaults } from './python.ts';
import { after, sessionBefore, withOutputs } from './session.ts';
import { commandsOf } from './shell.ts';
import type { Stand } from './stand.ts';
import { readUnit } from './unit.ts';

interface Scene {
  readonly stand: Stand;
  readonly document: Document;
}
/** Gives what is wrong, each in words. */
type Check = (block: Block, scene: Scene) => Promise<readonly string[]>;

/** By what stands behind the fence. A kind that is not here is refused. */
const CHECKS: Readonly<Record<string, Check>> = {
  sh: checkShell,
  python: checkPython,
  yaml: checkYaml,
  json: async ({ text }) => faultsOf(JobSchema.safeParse(JSON.parse(text))),
  ini: checkUnit,
  text: checkReport,
  tree: checkTree,
};

/** What is wrong with a block of a document; empty where nothing is. */
export async function checkBlock(block: Block, scene: Scene): Promise<readonly string[]> {
  const check = Object.hasOwn(CHECKS, block.language) ? CHECKS[block.language] : undefined;
  if (check === undefined)
    return [`"${block.language}" is not known: say in test/docs/blocks.ts how it is checked`];
  try {
    return await check(block, scene);
  } catch (error) {
    return [error instanceof Error ? error.message : String(error)];
  }
}

async function checkShell(block: Block, { stand, document }: Scene): Promise<readonly string[]> {
  let session = sessionBefore(block, document);
  const faults: string[] = [];
  await placeConfiguration(document, stand);
  for (const command of commandsOf(block.text)) {
    const where = `line ${block.line + command.line}: ${command.text}: `;
    const unknown = await unknownVariables(command.env.map(([name]) => name));
    const fault = await checkCommand(command, { stand, document, ...session });
    const values = command.env.map(([name, value]) => optionFault(name, withOutputs(value)));
    faults.push(...unknown.map(name => `${where}nobody reads ${name}`));
    faults.push(...values.flatMap(wrong => (wrong === null ? [] : where + wrong)));
    if (fault !== null) faults.push(where + fault);
    session = after(session, command);
  }
  return faults;
}

/** Puts the document's example of a file where its commands find it. */
async function placeConfiguration({ blocks }: Document, stand: Stand): Promise<void> {
  const example = blocks.find(({ language, text }) => language === 'yaml' && isConfiguration(parse(text)));
  if (example !== undefined) await writeConfiguration(example.text, stand);
}

/** Variables that neither we nor the examples, the scripts or Airflow read. */
async function unknownVariables(names: readonly string[]): Promise<readonly string[]> {
  const files = [
    'clients/python/mlflow_sidecar.py',
    'examples/inference/app.py',
    'scripts/chaos.ts',
    'scripts/lib/python.mjs',
  ];
  const sources = (await Promise.all(files.map(file => readFile(join(ROOT, file), 'utf8')))).join('');
  const options = OPTION_SPECS.map(({ name }) => name);
  const isKnown = (name: string) =>
    options.includes(name) || /^AIRFLOW_/.test(name) || new RegExp(`\\b${name}\\b`).test(sources);
  return names.filter(name => !isKnown(name));
}

async function checkPython({ text }: Block): Promise<readonly string[]> {
  return (await pythonFaults([text])).flat();
}

const AlertsSchema = z.array(
  z.strictObject({
    alert: z.string().regex(/^\w+$/),
    expr: z.string().superRefine((expression, context) => {
      for (const message of expressionFaults(expression)) context.addIssue({ code: 'custom', message });
    }),
    for: z
      .string()
      .regex(/^\d+[smhd]$/)
      .optional(),
  }),
);
const KEYS = OPTION_SPECS.map(keyOf);

/** A configuration, or alerts of Prometheus. */
async function checkYaml({ text }: Block, { stand }: Scene): Promise<readonly string[]> {
  const content: unknown = parse(text);
  if (!isConfiguration(content)) return faultsOf(AlertsSchema.safeParse(content));
  const path = await writeConfiguration(text, stand);
  const { code, output } = await stand.run(['serve', '--check', '--config', path], {});
  return code === 0 ? [] : [output];
}

function isConfiguration(content: unknown): boolean {
  return (
    typeof content === 'object' && content !== null && Object.keys(content).some(key => KEYS.includes(key))
  );
}

/** As `sidecar.yaml`, with secrets where they can be read. */
async function writeConfiguration(text: string, { dir }: Stand): Promise<string> {
  for (const [, secret = ''] of text.matchAll(/\/run\/secrets\/([\w-]+)/g)) {
    await writeFile(join(dir, secret), 'a-secret');
  }
  const path = join(dir, 'sidecar.yaml');
  await writeFile(path, text.replaceAll('/run/secrets/', `${dir}/`));
  return path;
}

/** A unit of systemd that starts the sidecar with variables. */
async function checkUnit({ text }: Block, { stand }: Scene): Promise<readonly string[]> {
  const { valuesOf, faults } = readUnit(text);
  if (faults.length > 0) return faults;
  const env = Object.fromEntries(
    valuesOf('Environment').map(pair => [pair.replace(/=.*/, ''), pair.replace(/^[^=]*=/, '')]),
  );
  const unknown = await unknownVariables(Object.keys(env));
  const [, ...args] = (valuesOf('ExecStart')[0] ?? '').split(' ');
  const { code, output } = await stand.run([...args, '--check'], env);
  return [...unknown.map(name => `nobody reads ${name}`), ...(code === 0 ? [] : [output])];
}

/** Directories and files, each below what is indented less; of the first one every directory is to be there. */
async function checkTree({ text }: Block): Promise<readonly string[]> {
  const above: string[] = [];
  const paths = text.split('\n').map(line => {
    const [, indent = '', name = ''] = /^((?: {2})*)(\S+)/.exec(line) ?? [];
    above.splice(indent.length / 2, above.length, name);
    return above.join('');
  });
  const [root = ''] = paths;
  const inside = await readdir(join(ROOT, root), { withFileTypes: true });
  const rooms = inside.filter(entry => entry.isDirectory()).map(({ name }) => `${root}${name}/`);
  return [
    ...paths.filter(path => !existsSync(join(ROOT, path))).map(path => `${path} is not there`),
    ...rooms.filter(room => !paths.includes(room)).map(room => `${room} is not named`),
  ];
}

/** The report of a reload, but for what differs from one to the next. */
async function checkReport({ text }: Block, { stand }: Scene): Promise<readonly string[]> {
  const body = new URLSearchParams({ model_uri: 'models:/topic-classification/Production', force: 'true' });
  const answer = await fetch(`${stand.url}/v1/reload`, {
    method: 'POST',
    body,
    headers: { accept: 'text/plain' },
  });
  const given = masked((await answer.text()).replaceAll(stand.mlflowUrl, 'http://mlflow:5000'));
  return given === masked(text) ? [] : [`is not as the sidecar’s report is, which is: ${given}`];
}

function masked(report: string): string {
  return report
    .trim()
    .replace(/-> \S+\/v1\/snapshots\/[\da-f]{32}$/m, '-> path')
    .replace(/(?<=Run ID: )[\da-f]{8}(?=\.\.\.$)/m, 'id')
    .replaceAll(/\d+(\.\d+)?/g, '0');
}

function faultsOf(parsed: z.ZodSafeParseResult<unknown>): readonly string[] {
  return parsed.success
    ? []
    : parsed.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`);
}
