import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { expect, onTestFinished, test } from 'vitest';
import { z } from 'zod';
import { OPTION_SPECS } from '../../src/config/table.ts';
import { environmentOf, mountsOf, readCompose, serviceOf } from '../support/compose.ts';
import { pairsOf, readDockerfile, textsOf } from '../support/dockerfile.ts';
import { MLFLOW_VERSIONS } from '../support/real-mlflow.ts';
import { startSidecar } from '../support/sidecar.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const DIR = join(ROOT, 'examples', 'compose');
const FILE = join(DIR, 'compose.yaml');
const HELPER = join(ROOT, 'clients', 'python', 'mlflow_sidecar.py');
const VENV = join(ROOT, '.cache', 'venv');
const GIVEN = { SIDECAR_TOKEN: 'a/token+of=ours' };
const execute = promisify(execFile);

const text = await readFile(FILE, 'utf8');
const compose = await readCompose(FILE);
const mlflow = serviceOf(compose, 'mlflow');
const sidecar = serviceOf(compose, 'sidecar');
const airflow = serviceOf(compose, 'airflow');

/** Validates a file by the schema of the Compose specification. Rejects with what is wrong with it. */
async function validate(path: string): Promise<void> {
  const program = join(VENV, 'python-checks', 'bin', 'check-jsonschema');
  await execute(program, ['--builtin-schema', 'vendor.compose-spec', path]);
}

test('the file is valid by the Compose specification', () => validate(FILE));

test.each([
  ['a key of a service', 'mem_limit:', 'memory_limit:'],
  ['a key below it', 'start_period:', 'start_periode:'],
  ['a value', 'restart: unless-stopped', 'restart: [unless-stopped]'],
])('the validation refuses %s that Compose does not know', async (_, right, wrong) => {
  const dir = await mkdtemp(join(tmpdir(), 'sidecar-compose-'));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  expect(text).toContain(right);
  await writeFile(join(dir, 'compose.yaml'), text.replace(right, wrong));
  await expect(validate(join(dir, 'compose.yaml'))).rejects.toMatchObject({
    stdout: expect.stringContaining('Schema validation errors were encountered'),
  });
});

test('Airflow has the sidecar’s cache, at the same path and read-only', async () => {
  const [cache, ...others] = mountsOf(sidecar);
  expect(others).toEqual([]);
  expect(compose.volumes).toHaveProperty(cache?.source ?? '');
  expect(cache?.isReadOnly).toBe(false);
  expect(mountsOf(airflow)).toContainEqual({ ...cache, isReadOnly: true });
  for (const service of [sidecar, airflow]) {
    expect(service.environment['SIDECAR_CACHE_DIR']).toBe(cache?.target);
  }
  const [image = []] = readDockerfile(await readFile(join(ROOT, 'Dockerfile'), 'utf8')).slice(-1);
  expect(textsOf(image, 'ENV').map(env => pairsOf(env)['SIDECAR_CACHE_DIR'])).toEqual([cache?.target]);
  expect(textsOf(image, 'USER')).toEqual([sidecar.user]);
});

test('the sidecar’s configuration is right, and without the token it is not', async () => {
  const check = (env: Readonly<Record<string, string>>) =>
    execute(process.execPath, [join(ROOT, 'dist', 'main.js'), 'serve', '--check'], { env });
  expect(await check(environmentOf(sidecar, GIVEN))).toEqual({
    stdout: 'The configuration is right.\n',
    stderr: '',
  });
  await expect(check(environmentOf(sidecar, {}))).rejects.toMatchObject({
    code: 2,
    stderr: expect.stringContaining('SIDECAR_TOKEN'),
  });
});

const ConnectionSchema = z.strictObject({
  conn_type: z.literal('http'),
  host: z.string(),
  port: z.number(),
  login: z.string().min(1),
  password: z.string(),
});

test('it answers Airflow by the name and with the token that Airflow is given', async () => {
  const env = environmentOf(airflow, GIVEN);
  const connection = ConnectionSchema.parse(JSON.parse(env['AIRFLOW_CONN_MODEL_SIDECAR'] ?? ''));
  const { host, port, login, password } = connection;
  expect(`http://${host}:${port}`).toBe(env['SIDECAR_URL']);
  expect(password).toBe(env['SIDECAR_TOKEN']);

  const { SIDECAR_CACHE_DIR: _, ...others } = environmentOf(sidecar, GIVEN);
  const running = await startSidecar({ ...others, SIDECAR_HOST: '127.0.0.1' });
  onTestFinished(async () => void (await running.stop()));
  const status = (authority: string, authorization: string) =>
    statusOf(`${running.url}/v1/status`, { host: authority, authorization });
  const basic = `Basic ${Buffer.from(`${login}:${password}`).toString('base64')}`;
  expect(await status(`${host}:${port}`, basic)).toBe(200);
  expect(await status(`${host}:${port}`, `Bearer ${env['SIDECAR_TOKEN']}`)).toBe(200);
  expect(await status(`${host}:${port}`, 'Bearer another')).toBe(401);
  expect(await status(`other:${port}`, basic)).toBe(403);
});

/** fetch sends no Host but the URL's. */
function statusOf(url: string, headers: Readonly<Record<string, string>>): Promise<number | undefined> {
  return new Promise((done, fail) => {
    request(url, { headers }, answer => done(answer.resume().statusCode))
      .on('error', fail)
      .end();
  });
}

test('MLflow’s server takes its options, and the Host that the others send', async () => {
  const [program, ...args] = mlflow.command ?? [];
  expect(program).toBe('mlflow');
  // An option that it does not know stops it before the help is shown.
  const python = join(VENV, `mlflow-${MLFLOW_VERSIONS[0]}`, 'bin', 'python');
  const { stdout } = await execute(python, ['-m', 'mlflow', ...args, '--help']);
  expect(stdout).toMatch(/^Usage: .* server /);
  const hosts = args
    .find(arg => arg.startsWith('--allowed-hosts='))
    ?.replace(/^.*=/, '')
    .split(',');
  for (const { environment } of [sidecar, airflow]) {
    expect(hosts).toContain(new URL(environment['MLFLOW_TRACKING_URI'] ?? '').host);
  }
}, 180_000);

test('every variable for the sidecar, its helper and MLflow is one that they read', async () => {
  const helper = [...(await readFile(HELPER, 'utf8')).matchAll(/environ\.get\("(\w+)"/g)].map(
    found => found[1],
  );
  expect(helper).toContain('SIDECAR_URL');
  const options = OPTION_SPECS.map(({ name }) => name);
  const ours = (name: string) => /^(SIDECAR|MLFLOW)_/.test(name);
  expect(
    Object.keys(sidecar.environment)
      .filter(ours)
      .filter(name => !options.includes(name)),
  ).toEqual([]);
  const known = [...helper, 'MLFLOW_TRACKING_URI', 'MLFLOW_HTTP_REQUEST_MAX_RETRIES'];
  expect(
    Object.keys(airflow.environment)
      .filter(ours)
      .filter(name => !known.includes(name)),
  ).toEqual([]);
});

test('nothing waits for MLflow or for a warm cache', () => {
  expect(sidecar.depends_on).toEqual({});
  expect(airflow.depends_on).toEqual({ sidecar: { condition: 'service_started' } });
});

test('ports are open on this machine only', () => {
  const ports = Object.values(compose.services).flatMap(service => service.ports);
  expect(ports).toHaveLength(3);
  for (const port of ports) expect(port).toMatch(/^127\.0\.0\.1:(\d+):\1$/);
});

test('what is mounted from the repository is there, and read-only', () => {
  const mounts = Object.values(compose.services).flatMap(mountsOf);
  const files = mounts.filter(({ source }) => source.startsWith('.'));
  expect(files).toHaveLength(2);
  for (const { source, isReadOnly } of files) {
    expect({ source, isReadOnly, isThere: existsSync(join(DIR, source)) }).toEqual({
      source,
      isReadOnly: true,
      isThere: true,
    });
  }
  expect(sidecar.build).toBe('../..');
});

test('images and packages have versions, the same on both sides', async () => {
  const { dockerfile_inline: inline } = z.object({ dockerfile_inline: z.string() }).parse(airflow.build);
  const dockerfiles = [await readFile(join(ROOT, 'Dockerfile'), 'utf8'), inline].flatMap(file =>
    readDockerfile(file),
  );
  const images = dockerfiles.flatMap(stage => textsOf(stage, 'FROM')).map(from => from.replace(/ AS .*/, ''));
  for (const image of [mlflow.image, ...images]) expect(image).toMatch(/^[\w./-]+:v?\d[\w.-]*$/);
  expect(mlflow.image).toBe(`ghcr.io/mlflow/mlflow:v${MLFLOW_VERSIONS[0]}`);
  expect(inline).toContain(` mlflow==${MLFLOW_VERSIONS[0]} `);
  const [, version] = /^FROM apache\/airflow:(\S+)$/m.exec(inline) ?? [];
  expect(inline).toContain(` apache-airflow==${version} `);
});

test('the token comes from outside, and none stops the start with words', async () => {
  expect(sidecar.environment['SIDECAR_TOKEN']).toMatch(/^\$\{SIDECAR_TOKEN:\?.*\.env\.example.*\}$/);
  const secrets = [...text.matchAll(/(?:TOKEN|PASSWORD|SECRET|KEY)"?: *(\S*)/gi)].map(found => found[1]);
  expect(secrets).toHaveLength(3);
  for (const value of secrets) expect(value).toMatch(/^"?\$\{SIDECAR_TOKEN/);
  expect(await readFile(join(DIR, '.env.example'), 'utf8')).toMatch(/^SIDECAR_TOKEN=$/m);
});
