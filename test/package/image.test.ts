import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { packageVersion } from '../../src/config/version.ts';
import { reload, until } from '../faults/harness.ts';
import { readDockerfile } from '../support/dockerfile.ts';
import { freePort } from '../support/free-port.ts';
import { atMost } from '../support/limits.ts';
import { ScriptedMlflow } from '../support/scripted-mlflow.ts';
import { buildImage, type Image } from './build-image.ts';
import { CACHE, type Container, startContainer } from './container.ts';
import { sendContext } from './context.ts';
import { makeBase } from './sandbox.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const execute = promisify(execFile);
const BUILD_LIMIT_MS = 300_000;
const STOP_LIMIT_MS = 5_000;
/** Who the image runs as, and a user as a cluster chooses one. */
const USERS = ['65532:0', '1000650000:0'];

/** Namespaces with other users in them are root's to make. */
describe.skipIf(process.getuid?.() !== 0)('the image that the Dockerfile makes', () => {
  let dir: string;
  let image: Image;
  let upstream: ScriptedMlflow;

  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'sidecar-image-'));
    upstream = await ScriptedMlflow.start();
    image = await build(dir);
  }, BUILD_LIMIT_MS);
  afterAll(async () => {
    await upstream.close();
    await rm(dir, { recursive: true, force: true });
  });

  /** Runs it until it answers. */
  async function started(user: string): Promise<Container & { readonly url: string }> {
    const port = await freePort();
    const container = await startContainer(image, user, { ...upstream.env, SIDECAR_PORT: String(port) });
    onTestFinished(() => rm(container.volume, { recursive: true, force: true }));
    onTestFinished(() => container.signal('SIGKILL'));
    const url = `http://127.0.0.1:${port}`;
    const isReady = () =>
      fetch(`${url}/readyz`).then(
        ({ ok }) => ok || null,
        () => null,
      );
    await Promise.race([
      until(60_000, isReady),
      container.exited.then(code => expect.unreachable(`It ended with ${code}:\n${container.logs()}`)),
    ]);
    return { ...container, url };
  }

  test('holds the program and what its licences ask for, and no package manager', async () => {
    const files = await readdir(join(image.root, 'opt/mlflow-sidecar'), { recursive: true });
    expect(files).toEqual(
      expect.arrayContaining([
        'package.json',
        'LICENSE',
        'dist/main.js',
        'dist/THIRD_PARTY_LICENSES.txt',
        'dist/sbom.cdx.json',
      ]),
    );
    expect(files.filter(file => /node_modules|\.map$/.test(file))).toEqual([]);
    expect(await readdir(join(image.root, 'usr/local/bin'))).toEqual(['mlflow-sidecar', 'node']);
    expect(await readdir(join(image.root, 'usr/local/lib'))).toEqual([]);
  });

  test('belongs to root, but for the cache', async () => {
    const changed = ['find', join(image.root, 'opt'), '(', '-not', '-uid', '0', '-o', '-perm', '/022', ')'];
    const { stdout } = await execute('find', [...changed.slice(1), '-not', '-type', 'l']);
    expect(stdout).toBe('');
    const { uid, gid, mode } = await stat(join(image.root, CACHE));
    expect({ uid, gid, mode: mode & 0o7777 }).toEqual({ uid: 65_532, gid: 0, mode: 0o775 });
    expect(image.env['SIDECAR_CACHE_DIR']).toBe(CACHE);
    expect(image.user).toBe(USERS[0]);
  });

  test.each(USERS)('loads a model as %s, on a read-only root without a home', async user => {
    const name = `image-${user.replace(':', '-')}`;
    upstream.addVersion({ name, version: '1', stage: 'Production', files: { MLmodel: 'flavors: {}\n' } });
    const container = await started(user);
    const { outcome } = await reload(container.url, `models:/${name}/Production`);
    expect(outcome).toMatchObject({ status: 'loaded', version: '1', warning: null });
    expect(outcome.path).toMatch(new RegExp(`^${CACHE}/`));
    const owner = await stat(join(container.volume, outcome.path?.slice(CACHE.length) ?? ''));
    expect(`${owner.uid}:${owner.gid}`).toBe(user);
    for (const path of ['/tmp/x', '/opt/x', '/x']) {
      expect((await container.exec(['touch', path])).code).not.toBe(0);
    }
  });

  test.each(USERS)('says by its health check whether it is alive, as %s', async user => {
    const container = await started(user);
    expect(image.healthcheck[0]).toBe('mlflow-sidecar');
    expect((await container.exec(image.healthcheck)).code).toBe(0);
    container.signal('SIGTERM');
    await container.exited;
    expect((await container.exec(image.healthcheck)).code).toBe(1);
  });

  test.each(['SIGTERM', 'SIGINT'] as const)('ends with 0 on %s, as process 1', async name => {
    const container = await started('65532:0');
    expect(container.ownPid()).toBe(1);
    const asked = performance.now();
    container.signal(name);
    expect(await container.exited).toBe(0);
    expect(performance.now() - asked).toBeLessThan(atMost(STOP_LIMIT_MS));
    expect(container.logs()).toContain('"Stopped."');
  });

  test('is the program: its arguments are a command of it', async () => {
    const container = await started('65532:0');
    const version = await container.exec([...image.entrypoint, '--version']);
    expect(version).toEqual({ code: 0, stdout: `${packageVersion()}\n` });
    expect(image.cmd).toEqual(['serve']);
  });
});

async function build(dir: string): Promise<Image> {
  const context = join(dir, 'context');
  await mkdir(context);
  await sendContext(ROOT, context);
  const [npm, cache, registry] = await Promise.all([
    execute('sh', ['-c', 'realpath "$(command -v npm)"']),
    execute('npm', ['config', 'get', 'cache']),
    execute('npm', ['config', 'get', 'registry']),
  ]);
  let roots = 0;
  const base = async (from: string) => {
    expect(from).toMatch(/^node:24-slim$/);
    const root = join(dir, `root-${roots++}`);
    await makeBase(root, resolve(npm.stdout.trim(), '../..'));
    return root;
  };
  const env = {
    ...networkOf(process.env),
    npm_config_registry: registry.stdout.trim(),
    npm_config_prefer_offline: 'true',
    npm_config_cache: '/var/npm',
  };
  const lent = [{ source: cache.stdout.trim(), target: '/var/npm' }];
  const stages = readDockerfile(await readFile(join(ROOT, 'Dockerfile'), 'utf8'));
  return await buildImage(stages, { context, buildArgs: {}, base, network: { env, lent } });
}

/** What an engine gives to a build, and what this machine's programs trust. */
function networkOf(env: NodeJS.ProcessEnv): Readonly<Record<string, string>> {
  const names = /^(https?_proxy|no_proxy|NODE_EXTRA_CA_CERTS)$/i;
  return Object.fromEntries(
    Object.entries(env).flatMap(([name, value]) =>
      names.test(name) && value !== undefined ? [[name, value]] : [],
    ),
  );
}
