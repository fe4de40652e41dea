import { execFile } from 'node:child_process';
import { access, constants, cp, mkdtemp, readFile, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, delimiter, dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { packageVersion } from '../../src/config/version.ts';
import { type Instruction, readDockerfile, textsOf } from '../support/dockerfile.ts';
import { startSidecar } from '../support/sidecar.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const execute = promisify(execFile);

const stages = readDockerfile(await readFile(join(ROOT, 'Dockerfile'), 'utf8'));
const [build = [], image = []] = stages;
/** What both stages copy and build, below one root. */
let root: string;
let env: Readonly<Record<string, string>>;

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'sidecar-image-'));
  env = { PATH: [dirname(process.execPath), process.env['PATH']].join(delimiter), HOME: root };
  for (const instruction of build) await follow(instruction);
  for (const instruction of image.filter(({ word }) => word === 'COPY')) await follow(instruction);
});

afterAll(() => rm(root, { recursive: true, force: true }));

async function follow({ word, text, flags }: Instruction): Promise<void> {
  const workdir = join(root, textsOf(build, 'WORKDIR')[0] ?? '');
  if (word === 'COPY') {
    const paths = text.split(' ');
    const target = paths.pop() ?? '';
    const to = target.startsWith('/') ? join(root, target) : join(workdir, target);
    for (const path of paths) {
      const from = join(flags['from'] === undefined ? ROOT : root, path);
      await cp(from, target.endsWith('/') ? join(to, basename(path)) : to, { recursive: true });
    }
  } else if (word === 'RUN' && text.startsWith('npm ci ')) {
    // What it installs is what this test runs with.
    await symlink(join(ROOT, 'node_modules'), join(workdir, 'node_modules'));
  } else if (word === 'RUN') {
    await execute('sh', ['-c', text], { cwd: workdir, env });
  }
}

test('the build needs no file but those that it copies, and what is copied runs without node_modules', async () => {
  const [, program = ''] =
    /ln -s (\S+) \/usr\/local\/bin\/mlflow-sidecar/.exec(textsOf(image, 'RUN')[0] ?? '') ?? [];
  await access(join(root, program), constants.X_OK);
  const { stdout } = await execute(join(root, program), ['--version'], { env });
  expect(stdout).toBe(`${packageVersion()}\n`);
  const checked = await execute(join(root, program), ['serve', '--check'], {
    env: { ...env, MLFLOW_TRACKING_URI: 'http://mlflow:5000' },
  });
  expect(checked.stderr).toBe('');
});

test('.dockerignore lets through what the Dockerfile copies, and nothing else', async () => {
  const copied = stages
    .flat()
    .filter(({ word, flags }) => word === 'COPY' && flags['from'] === undefined)
    .flatMap(({ text }) => text.split(' ').slice(0, -1));
  const [first, ...others] = (await readFile(join(ROOT, '.dockerignore'), 'utf8')).trim().split('\n');
  expect(first).toBe('*');
  expect(others.toSorted()).toEqual([...new Set(copied)].map(path => `!${path}`).toSorted());
});

test('it runs as no user of the system, who owns the cache', () => {
  expect(textsOf(image, 'USER')).toEqual(['65532:0']);
  const [, cacheDir = ''] = /^SIDECAR_CACHE_DIR=(\S+)$/.exec(textsOf(image, 'ENV')[0] ?? '') ?? [];
  expect(textsOf(image, 'RUN')[0]).toContain(`install -d -o 65532 -g 0 -m 775 ${cacheDir}`);
});

test('its health check says whether the sidecar answers', async () => {
  const [command = ''] = textsOf(image, 'HEALTHCHECK');
  const [program = '', ...args]: string[] = JSON.parse(command.replace(/^CMD /, ''));
  const sidecar = await startSidecar({ MLFLOW_TRACKING_URI: 'http://mlflow:5000' });
  const check = () => execute(program, args, { env: { ...env, SIDECAR_PORT: new URL(sidecar.url).port } });
  try {
    await check();
  } finally {
    await sidecar.stop();
  }
  await expect(check()).rejects.toMatchObject({ code: 1 });
});
