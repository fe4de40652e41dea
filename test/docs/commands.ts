import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { packageVersion } from '../../src/config/version.ts';
import { checkDocker, checkHelm } from './containers.ts';
import { checkCurl } from './curl.ts';
import { ROOT } from './markdown.ts';
import { outcomeFault } from './outcomes.ts';
import type { Scene } from './scene.ts';
import type { Command } from './shell.ts';

/** Gives what is wrong, or null. */
type Check = (command: Command, scene: Scene) => Promise<string | null> | string | null;

const PackageSchema = z.object({ scripts: z.record(z.string(), z.string()) });
/** What npm runs, by name. */
export const { scripts: SCRIPTS } = PackageSchema.parse(
  JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')),
);

/** What is known of each program. One that is not here is refused. */
const PROGRAMS: Readonly<Record<string, Check>> = {
  'mlflow-sidecar': checkOurs,
  curl: checkCurl,
  docker: (command, scene) => checkDocker(command, scene, checkCommand),
  helm: checkHelm,
  npm: checkNpm,
  airflow: checkAirflow,
  pip: ({ words: [, ...args] }, scene) => checkPip(args, scene),
  uvicorn: ({ words: [, app = ''] }, { document }) => {
    const [module = '', name = ''] = app.split(':');
    const file = join(ROOT, dirname(document.path), `${module}.py`);
    return existsSync(file) && readFileSync(file, 'utf8').includes(`\n${name} = `)
      ? null
      : `there is no ${app}`;
  },
  cd: ({ words: [, dir = ''] }) => (existsSync(join(ROOT, dir)) ? null : `there is no ${dir}`),
  echo: ({ isPiped }) => (isPiped ? null : 'says nothing that somebody reads'),
  openssl: ({ words }) =>
    words.join(' ') === 'openssl rand -hex 32' ? null : 'is not "openssl rand -hex 32"',
};

/** What is wrong with a command of a text, in words; null where nothing is. */
export async function checkCommand(command: Command, scene: Scene): Promise<string | null> {
  const [program] = command.words;
  if (program === undefined) return null;
  const check = Object.hasOwn(PROGRAMS, program) ? PROGRAMS[program] : undefined;
  if (check === undefined)
    return `${program} is not known here: say in test/docs/commands.ts how it is checked`;
  return await check(command, scene);
}

/** Runs it; what would serve only checks, and where it writes is a directory of the test's. */
async function checkOurs({ words, env }: Command, { stand, env: exported }: Scene): Promise<string | null> {
  const [, subcommand = '', ...given] = words;
  const own = { ...exported, ...Object.fromEntries(env) };
  const args = given.map((word, at) => (given[at - 1] === '--to' ? join(stand.dir, word) : word));
  const surroundings = subcommand === 'serve' ? {} : stand.env;
  const cache = subcommand === 'gc' ? { SIDECAR_CACHE_DIR: stand.idleCache } : {};
  const check = subcommand === 'serve' && !args.includes('--check') ? ['--check'] : [];
  const { code, output } = await stand.run([subcommand, ...args, ...check], {
    ...surroundings,
    ...cache,
    ...own,
  });
  if (code !== 0) return `ends with ${code}: ${output}`;
  return subcommand === 'reload' ? outcomeFault(output) : null;
}

function checkNpm({ words: [, subcommand = '', ...args] }: Command): string | null {
  const [first = '', ...more] = args;
  switch (subcommand) {
    case 'ci':
    case 'pack':
      return args.length === 0 ? null : `npm ${subcommand} takes nothing here`;
    case 'install':
      return args.join(' ') === `--global ./mlflow-sidecar-${packageVersion()}.tgz`
        ? null
        : 'installs something else';
    case 'test':
      if (args.length === 0) return null;
      return first === '--' && more.every(path => existsSync(join(ROOT, path)))
        ? null
        : `there is no ${more.join(' ')}`;
    case 'run':
      return checkScript(first, more);
    default:
      return `npm ${subcommand} is not known here`;
  }
}

/** What a script takes are words of its source. */
function checkScript(name: string, args: readonly string[]): string | null {
  if (!Object.hasOwn(SCRIPTS, name)) return `package.json has no script ${name}`;
  if (args.length === 0) return null;
  const [dashes, ...runs] = args;
  const file = join(ROOT, 'scripts', `${name}.ts`);
  if (dashes !== '--' || !existsSync(file)) return `npm run ${name} takes nothing`;
  const source = readFileSync(file, 'utf8');
  const unknown = runs.filter(run => !new RegExp(`^ +'?${run}'?: `, 'm').test(source));
  return unknown.length === 0 ? null : `scripts/${name}.ts has no ${unknown.join(', ')}`;
}

/** Whether its DAGs work is for tests of their own. */
function checkAirflow({ words: [, ...args] }: Command): string | null {
  const [group, action, dag, flag, conf, ...others] = args;
  if (args.join(' ') === 'db migrate') return null;
  if (group !== 'dags' || action !== 'test' || dag === undefined) return 'is not known here';
  if (!existsSync(join(ROOT, 'examples/airflow/dags', `${dag}.py`))) return `there is no DAG ${dag}`;
  if (flag === undefined) return null;
  if (flag !== '-c' || conf === undefined || others.length > 0)
    return `takes ${flag}, which is not known here`;
  JSON.parse(conf);
  return null;
}

function checkPip([install, ...args]: readonly string[], { document }: Scene): string | null {
  if (install !== 'install') return `pip ${install} is not known here`;
  const at = args.indexOf('-r');
  const file = join(ROOT, dirname(document.path), args[at + 1] ?? '');
  return at < 0 || existsSync(file) ? null : `there is no ${file}`;
}
