import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { expect, test } from 'vitest';
import { z } from 'zod';
import { DIR, podsOf, readClaim, readValues } from '../support/airflow-values.ts';
import { helm, type Manifest, manifestsIn } from '../support/helm.ts';
import { containerOf, environmentOf, type PodSpec, PodSpecSchema } from '../support/pod.ts';

const SERVICE = 'kubernetes-service.yaml';
const SHARED = 'from-1.21/kubernetes-shared-claim.yaml';
const DeploymentSchema = z.object({ spec: z.object({ template: z.object({ spec: PodSpecSchema }) }) });
const ServiceSchema = z.object({ spec: z.object({ ports: z.array(z.object({ port: z.number() })) }) });
const SecretSchema = z.object({ data: z.record(z.string(), z.string()) });

/** The pod of a task that is given these files. */
async function task(...files: readonly string[]): Promise<PodSpec> {
  const pod = podsOf(await readValues({ files }), 'from-1.21').get('task');
  if (pod === undefined) throw new Error('There is no pod for a task.');
  return pod;
}

/** What README.md's command makes of our own chart. */
async function installed(...flags: readonly string[]): Promise<(kind: string, name: string) => Manifest> {
  const readme = await readFile(join(DIR, 'README.md'), 'utf8');
  const [, release = '', chart = '', options = ''] =
    /^helm upgrade --install (\S+) (\.\.\/\S+) (.*)$/m.exec(readme) ?? [];
  const given = options.split(' ').map(option => option.replaceAll("'", ''));
  const manifests = manifestsIn(await helm('template', release, resolve(DIR, chart), ...given, ...flags));
  return (kind, name) => {
    const found = manifests.find(one => one.kind === kind && one.metadata.name === name);
    if (found === undefined) throw new Error(`There is no ${kind} ${name}.`);
    return found;
  };
}

test('is asked at one address, with its token', async () => {
  const env = environmentOf(containerOf(await task(SERVICE), 'airflow'), { token: 'of-ours' });
  const url = new URL(env['SIDECAR_URL'] ?? '');
  expect(env).toMatchObject({
    MLFLOW_REGISTRY_URI: env['SIDECAR_URL'],
    SIDECAR_TOKEN: 'of-ours',
    MLFLOW_TRACKING_TOKEN: 'of-ours',
    NO_PROXY: url.hostname,
  });
  expect(JSON.parse(env['AIRFLOW_CONN_MODEL_SIDECAR'] ?? '')).toEqual({
    conn_type: 'http',
    host: url.hostname,
    port: Number(url.port),
    login: 'airflow',
    password: 'of-ours',
  });
});

test('is what README.md’s command installs: its name, its port and its Secret', async () => {
  const { env } = containerOf(await task(SERVICE), 'airflow');
  const url = new URL(env.find(({ name }) => name === 'SIDECAR_URL')?.value ?? '');
  const token = env.find(({ name }) => name === 'SIDECAR_TOKEN')?.valueFrom;
  const { secretKeyRef } = z
    .object({ secretKeyRef: z.object({ name: z.string(), key: z.string() }) })
    .parse(token);
  const found = await installed();
  const { spec } = ServiceSchema.parse(found('Service', url.hostname));
  expect(spec.ports.map(({ port }) => String(port))).toEqual([url.port]);
  expect(SecretSchema.parse(found('Secret', secretKeyRef.name)).data).toHaveProperty(secretKeyRef.key);
});

test('keeps no pod of Airflow’s from starting while its Secret is not there', async () => {
  const { env } = containerOf(await task(SERVICE), 'airflow');
  const secrets = env.flatMap(({ valueFrom }) => Object(valueFrom).secretKeyRef ?? []);
  expect(secrets).toEqual([{ name: 'mlflow-sidecar', key: 'token', optional: true }]);
});

test('writes the claim that tasks read, at the same path', async () => {
  const { metadata } = await readClaim();
  const found = await installed(`--set=persistence.existingClaim=${metadata.name}`);
  const { spec } = DeploymentSchema.parse(found('Deployment', 'mlflow-sidecar')).spec.template;
  const pod = await task(SERVICE, SHARED);
  const pathIn = ({ volumes, containers }: PodSpec) => {
    const volume = volumes.find(one => one.persistentVolumeClaim?.claimName === metadata.name);
    return containers[0]?.volumeMounts.find(({ name }) => name === volume?.name)?.mountPath;
  };
  expect(pathIn(pod)).toBe('/var/cache/mlflow-sidecar');
  expect(pathIn(spec)).toBe(pathIn(pod));
  expect(environmentOf(containerOf(pod, 'airflow'))['SIDECAR_CACHE_DIR']).toBe(pathIn(pod));
});
