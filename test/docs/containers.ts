import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { packageVersion } from '../../src/config/version.ts';
import { readCompose } from '../support/compose.ts';
import { ROOT } from './markdown.ts';
import type { Scene } from './scene.ts';
import type { Command } from './shell.ts';

const IMAGE = `mlflow-sidecar:${packageVersion()}`;
const CACHE = '/var/cache/mlflow-sidecar';
/** As `scripts/lib/helm.mjs` brings it. */
const HELM = join(ROOT, '.cache', 'helm', 'helm');
const execute = promisify(execFile);

type Check = (command: Command, scene: Scene) => Promise<string | null>;

/** @param checkInside what a command is checked by that runs in a container */
export async function checkDocker(
  command: Command,
  scene: Scene,
  checkInside: Check,
): Promise<string | null> {
  const [, subcommand = '', ...args] = command.words;
  if (subcommand === 'build') return checkBuild(args);
  if (subcommand === 'run') return checkRun(args, scene);
  if (subcommand === 'compose')
    return checkCompose(args, scene, inside => checkInside({ ...command, words: inside, env: [] }, scene));
  return `docker ${subcommand} is not known here`;
}

function checkBuild(args: readonly string[]): string | null {
  const said = args.join(' ');
  if (said !== `--tag ${IMAGE} .`) return `is not "docker build --tag ${IMAGE} ."`;
  return existsSync(join(ROOT, 'Dockerfile')) ? null : 'there is no Dockerfile';
}

/** Has the program check what the container is given, as a configuration. */
async function checkRun(args: readonly string[], { stand, env }: Scene): Promise<string | null> {
  const { given, image, rest, fault } = containerOf(args, env);
  if (fault !== null) return fault;
  if (image !== IMAGE) return `starts ${image}, which is not ${IMAGE}`;
  const { code, output } = await stand.run(['serve', '--check', ...rest], given);
  return code === 0 ? null : output;
}

interface Container {
  readonly name: string | null;
  readonly image: string | null;
  /** Its environment. */
  readonly given: Readonly<Record<string, string>>;
  /** What follows the image. */
  readonly rest: readonly string[];
  /** What is wrong with it; null where nothing is. */
  readonly fault: string | null;
}

/** What `docker run` would start with these arguments. */
export function containerOf(args: readonly string[], env: Readonly<Record<string, string>>): Container {
  const given: Record<string, string> = {};
  const faults: string[] = [];
  const rest = args.values();
  let image: string | null = null;
  let container: string | null = null;
  for (const word of rest) {
    if (!word.startsWith('-')) {
      image = word;
      break;
    }
    if (['--detach', '--read-only'].includes(word)) continue;
    const value = rest.next().value ?? '';
    const [name = '', ...values] = value.split('=');
    if (word === '--env') given[name] = values.length === 0 ? (env[name] ?? '') : values.join('=');
    else if (word === '--volume') {
      if (value.split(':')[1] !== CACHE) faults.push(`mounts ${value}, and the cache is ${CACHE}`);
    } else if (word === '--publish') {
      if (value !== '127.0.0.1:5080:5080') faults.push(`publishes ${value}`);
    } else if (word === '--name') container = value;
    else faults.push(`has a flag that is not known here: ${word}`);
  }
  return { name: container, image, given, rest: [...rest], fault: faults[0] ?? null };
}

async function checkCompose(
  [subcommand = '', ...args]: readonly string[],
  { document }: Scene,
  checkInside: (words: readonly string[]) => Promise<string | null>,
): Promise<string | null> {
  const dir = join(ROOT, dirname(document.path));
  const { services } = await readCompose(join(dir, 'compose.yaml'));
  const [service, ...inside] = args.filter(word => !['--build', '--detach', '--wait'].includes(word));
  if (subcommand === 'up' && service === undefined) return null;
  if (service === undefined || !Object.hasOwn(services, service)) return `there is no service ${service}`;
  if (['pause', 'unpause', 'stop', 'start'].includes(subcommand) && inside.length === 0) return null;
  if (subcommand !== 'exec') return `docker compose ${subcommand} is not known here`;
  return checkInside(inside);
}

/** Renders what it would install, by Helm itself. */
export async function checkHelm({ words }: Command): Promise<string | null> {
  const [, subcommand = '', ...args] = words;
  if (subcommand !== 'install') return `helm ${subcommand} is not known here`;
  if (!existsSync(HELM)) return `${HELM} is not there: "npm test" brings it`;
  try {
    await execute(HELM, ['template', ...args], { cwd: ROOT });
    return null;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}
