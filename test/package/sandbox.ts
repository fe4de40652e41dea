import { existsSync } from 'node:fs';
import { cp, lstat, mkdir, readdir, readlink, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

/** What the machine lends to a root: its programs and libraries, but nothing of /usr/local. */
const LENT = ['bin', 'sbin', 'lib', 'lib32', 'lib64', 'libx32', 'etc'];
const NODE = '/usr/local/bin/node';
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

type Env = Readonly<Record<string, string>>;

interface Mount {
  readonly source: string;
  readonly target: string;
}

export interface Inside {
  /** Numbers, `user:group`. There are no other groups, and no capabilities unless the user is root. */
  readonly user: string;
  readonly workdir: string;
  /** All that it gets, beside PATH. */
  readonly env: Env;
  /** Where given, nothing can be written but below these. */
  readonly writable?: readonly Mount[];
  /** What is there besides, and can be written. */
  readonly lent?: readonly Mount[];
}

/** Lays out a root as the image `node:24-slim` has it: this machine's system, this process's Node and an npm below /usr/local. */
export async function makeBase(root: string, npm: string): Promise<void> {
  for (const name of LENT) await standIn(root, name);
  for (const name of await readdir('/usr')) if (name !== 'local') await standIn(root, join('usr', name));
  for (const name of [
    'proc',
    'dev',
    'tmp',
    'var',
    'opt',
    'root',
    'var/npm',
    'usr/local/bin',
    'usr/local/lib/node_modules',
  ]) {
    await mkdir(join(root, name), { recursive: true });
  }
  await writeFile(join(root, NODE), '');
  await cp(npm, join(root, 'usr/local/lib/node_modules/npm'), { recursive: true });
  for (const name of ['npm', 'npx']) {
    await symlink(`../lib/node_modules/npm/bin/${name}-cli.js`, join(root, 'usr/local/bin', name));
  }
}

async function standIn(root: string, name: string): Promise<void> {
  if (!existsSync(join('/', name))) return;
  const target = join(root, name);
  await mkdir(dirname(target), { recursive: true });
  if ((await lstat(join('/', name))).isSymbolicLink()) await symlink(await readlink(join('/', name)), target);
  else await mkdir(target);
}

/**
 * The command that runs `command` as process 1 of a process and a mount namespace of their own, with `root` for its root, as a
 * container engine does; it needs to be root itself. The network is the machine's.
 */
export async function inside(
  root: string,
  command: readonly string[],
  how: Inside,
): Promise<readonly string[]> {
  const [uid, gid] = how.user.split(':');
  const mounts = [
    bind({ source: root, target: root }),
    ...(await systemMounts(root)),
    ...(how.lent ?? []).map(({ source, target }) => bind({ source, target: join(root, target) })),
    ...(how.writable === undefined ? [] : [readOnly(root)]),
    ...(how.writable ?? []).map(({ source, target }) => bind({ source, target: join(root, target) })),
    `mount -t proc proc ${quoted(join(root, 'proc'))}`,
  ];
  const unprivileged = uid === '0' ? [] : ['--bounding-set=-all', '--inh-caps=-all', '--no-new-privs'];
  const env = Object.entries({ PATH, ...how.env }).map(([name, value]) => `${name}=${value}`);
  const program = [
    ...['chroot', root, 'setpriv', `--reuid=${uid}`, `--regid=${gid}`, '--clear-groups', ...unprivileged],
    ...['env', '-i', `--chdir=${how.workdir}`, ...env, ...command],
  ];
  const script = ['set -e', ...mounts, `exec ${program.map(quoted).join(' ')}`].join('\n');
  return ['unshare', '--mount', '--pid', '--fork', '--kill-child', 'sh', '-c', script];
}

/** The system, which nobody changes. */
async function systemMounts(root: string): Promise<readonly string[]> {
  const usr = (await readdir('/usr')).filter(name => name !== 'local').map(name => join('usr', name));
  const lent: string[] = [];
  for (const name of [...LENT, ...usr]) {
    const path = join('/', name);
    if (existsSync(path) && !(await lstat(path)).isSymbolicLink()) lent.push(path);
  }
  return [
    ...lent.map(path => ({ source: path, target: join(root, path) })),
    { source: process.execPath, target: join(root, NODE) },
  ]
    .flatMap(mount => [bind(mount), readOnly(mount.target)])
    .concat(bind({ source: '/dev', target: join(root, 'dev') }));
}

function bind({ source, target }: Mount): string {
  return `mount --bind ${quoted(source)} ${quoted(target)}`;
}

function readOnly(target: string): string {
  return `mount -o remount,bind,ro ${quoted(target)}`;
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
