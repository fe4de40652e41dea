import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { expect, onTestFinished, test } from 'vitest';
import { z } from 'zod';
import { OPTION_SPECS } from '../../src/config/table.ts';
import { podsOf, readManifests, readValues, SETS } from '../support/airflow-values.ts';
import {
  type Container,
  commandOf,
  containerOf,
  environmentOf,
  fetchersIn,
  oursIn,
  type PodSpec,
  PodSpecSchema,
  sidecarsIn,
} from '../support/pod.ts';
import { ScriptedMlflow } from '../support/scripted-mlflow.ts';
import { startSidecar } from '../support/sidecar.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const MAIN = join(ROOT, 'dist', 'main.js');
const HELPER = join(ROOT, 'clients', 'python', 'mlflow_sidecar.py');
const execute = promisify(execFile);

const DeploymentSchema = z.object({ spec: z.object({ template: z.object({ spec: PodSpecSchema }) }) });
const [deployment] = await readManifests('inference.yaml');
const inference = DeploymentSchema.parse(deployment).spec.template.spec;
const pods: readonly PodSpec[] = [
  ...(
    await Promise.all(SETS.map(async set => [...podsOf(await readValues(set), set.layout).values()]))
  ).flat(),
  inference,
];

/** Of containers that differ in nothing the first. */
function distinct(containers: readonly Container[]): readonly Container[] {
  return [...new Map(containers.map(container => [JSON.stringify(container), container])).values()];
}

async function directory(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'sidecar-airflow-'));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

test('the sidecars’ configuration is right', async () => {
  const sidecars = distinct(pods.flatMap(sidecarsIn));
  expect(sidecars.length).toBeGreaterThan(1);
  for (const sidecar of sidecars) {
    const env = { ...environmentOf(sidecar), SIDECAR_CACHE_DIR: await directory() };
    expect(await execute(process.execPath, [MAIN, 'serve', '--check'], { env })).toEqual({
      stdout: 'The configuration is right.\n',
      stderr: '',
    });
  }
});

test('their probes say whether they run, MLflow or not', async () => {
  const sidecar = containerOf(inference, 'mlflow-sidecar');
  const running = await startSidecar({
    ...environmentOf(sidecar),
    SIDECAR_PORT: '0',
    SIDECAR_CACHE_DIR: await directory(),
  });
  onTestFinished(async () => void (await running.stop()));
  const [program, ...args] = commandOf(sidecar.startupProbe);
  expect(program).toBe('mlflow-sidecar');
  const env = { SIDECAR_PORT: new URL(running.url).port };
  const probe = () => execute(process.execPath, [MAIN, ...args], { env });
  await expect(probe()).resolves.toMatchObject({ stderr: '' });
  await running.stop();
  await expect(probe()).rejects.toMatchObject({ code: 1 });
});

test('the init containers put their model where the pod’s others read it', async () => {
  for (const fetcher of distinct(pods.flatMap(fetchersIn))) {
    const mlflow = await ScriptedMlflow.start();
    onTestFinished(() => mlflow.close());
    const files = { MLmodel: Buffer.from('flavors: {}\n') };
    mlflow.addVersion({ name: 'topic-classification', stage: 'Production', aliases: ['champion'], files });
    const volumes = await directory();
    const inVolume = (path: string) => (path === '' ? path : join(volumes, path));
    const to = fetcher.args.find(arg => arg.startsWith('--to='))?.slice('--to='.length) ?? '';
    expect(fetcher.volumeMounts.map(({ mountPath }) => mountPath)).toContain(resolve(to, '..'));

    const { SIDECAR_CACHE_DIR: cache = 'unset', ...others } = environmentOf(fetcher);
    const env = { ...others, ...mlflow.env, SIDECAR_CACHE_DIR: inVolume(cache), HOME: '/nowhere' };
    const args = fetcher.args.map(arg => arg.replace(to, inVolume(to)));
    await execute(process.execPath, [MAIN, ...args], { env });
    expect(await readFile(join(inVolume(to), 'MLmodel'), 'utf8')).toBe('flavors: {}\n');
  }
});

test('every variable is one that its container reads', async () => {
  const options = OPTION_SPECS.map(({ name }) => name);
  const helper = [...(await readFile(HELPER, 'utf8')).matchAll(/environ\.get\("(\w+)"/g)].map(
    found => found[1],
  );
  const mlflows = ['MLFLOW_REGISTRY_URI', 'MLFLOW_TRACKING_TOKEN', 'MLFLOW_HTTP_REQUEST_MAX_RETRIES'];
  // The first is that of Airflow's provider, the last that of examples/inference.
  const known = [...helper, ...mlflows, 'AIRFLOW_CONN_MODEL_SIDECAR', 'NO_PROXY', 'MODEL_URI'];
  for (const pod of pods) {
    for (const { env } of oursIn(pod))
      expect(options).toEqual(expect.arrayContaining(env.map(({ name }) => name)));
    for (const { env } of pod.containers)
      expect(known).toEqual(expect.arrayContaining(env.map(({ name }) => name)));
  }
});

test('the image has the version of this package', async () => {
  const { version } = z
    .object({ version: z.string() })
    .parse(JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8')));
  const images = new Set(pods.flatMap(oursIn).map(({ image }) => image));
  expect([...images]).toEqual([`mlflow-sidecar:${version}`]);
});

test('the service that follows a model is ready once it has one', async () => {
  const [, , program = ''] = z
    .looseObject({ exec: z.object({ command: z.array(z.string()) }) })
    .parse(containerOf(inference, 'service').readinessProbe).exec.command;
  for (const loaded of [false, true]) {
    const server = createServer((_, response) => void response.end(JSON.stringify({ loaded })));
    await once(server.listen(0, '127.0.0.1'), 'listening');
    onTestFinished(() => void server.close());
    const { port } = z.object({ port: z.number() }).parse(server.address());
    const asked = execute('python3', ['-c', program.replace(':8000/', `:${port}/`)]).then(
      () => true,
      () => false,
    );
    expect(await asked).toBe(loaded);
  }
});
