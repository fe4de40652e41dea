import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import * as kinds from '../../src/config/kinds.ts';
import { expectSafe, expectShared, expectWritable } from '../support/airflow-pod.ts';
import {
  type Claim,
  claimsOf,
  podsOf,
  readClaim,
  readManifests,
  readValues,
  SETS,
} from '../support/airflow-values.ts';
import { faultsOf } from '../support/kubernetes.ts';
import {
  containerOf,
  environmentOf,
  fetchersIn,
  oursIn,
  PodSpecSchema,
  sidecarsIn,
  withAny,
} from '../support/pod.ts';

/** What the sidecar leaves free of a file system, whatever its quota. */
const FREE = 0.15;

function bytesOf(text: string | undefined): number {
  const parsed = kinds.bytes(1).parse(text ?? '');
  if (!('value' in parsed)) throw new Error(`${text} is no number of bytes.`);
  return parsed.value;
}

const sizeOf = ({ spec }: Claim): number => bytesOf(spec.resources.requests.storage);

describe.each(SETS)('$title', set => {
  const pods = async () => podsOf(await readValues(set), set.layout);

  test('the pods that tasks and operators ask from have a sidecar', async () => {
    expect(withAny(await pods(), sidecarsIn)).toEqual(set.sidecars);
    expect(withAny(await pods(), fetchersIn)).toEqual(set.title.includes('fetch') ? ['task'] : []);
  });

  test('every container is safe, and what ours write Airflow’s reads', async () => {
    for (const pod of (await pods()).values()) {
      expectSafe(pod);
      expectShared(pod, 'airflow');
      if (sidecarsIn(pod).length > 0) expectWritable(pod);
    }
  });

  test('Airflow knows where the sidecar listens and keeps its models', async () => {
    for (const pod of (await pods()).values()) {
      const airflow = environmentOf(containerOf(pod, 'airflow'));
      for (const sidecar of sidecarsIn(pod)) {
        const { SIDECAR_PORT: port, SIDECAR_CACHE_DIR: cache } = environmentOf(sidecar);
        expect(sidecar.volumeMounts.map(({ mountPath }) => mountPath)).toEqual([cache]);
        expect(airflow).toMatchObject({
          SIDECAR_URL: `http://127.0.0.1:${port}`,
          AIRFLOW_CONN_MODEL_SIDECAR: `http://127.0.0.1:${port}`,
          SIDECAR_CACHE_DIR: cache,
          NO_PROXY: expect.stringContaining('127.0.0.1'),
        });
      }
    }
  });

  test('the quota is what a claim can hold beside what stays free', async () => {
    const own = claimsOf(await readValues(set), set.layout);
    const size = Math.min(...[await readClaim(), ...own].map(sizeOf));
    for (const sidecar of [...(await pods()).values()].flatMap(sidecarsIn)) {
      const quota = bytesOf(environmentOf(sidecar)['SIDECAR_CACHE_MAX_BYTES']);
      expect(quota).toBeGreaterThan(size / 2);
      expect(quota).toBeLessThan(size * (1 - FREE));
    }
  });

  test('a task’s pod has nothing of ours that runs on, and changes nothing that others read', async () => {
    const task = (await pods()).get('task');
    expect(task !== undefined).toBe(set.title.includes('kubernetes'));
    if (task === undefined) return;
    expect(sidecarsIn(task)).toEqual([]);
    expect(task.containers).toHaveLength(1);
    for (const { persistentVolumeClaim: claim } of task.volumes) expect(claim?.readOnly ?? true).toBe(true);
  });
});

describe('Kubernetes’ schemas', () => {
  const manifest = (kind: string, name: string, rest: object) => ({
    apiVersion: 'v1',
    kind,
    ...rest,
    metadata: { name },
  });

  test('know all that is in the pods and claims, and in what is applied beside the chart', async () => {
    const manifests = await Promise.all(
      SETS.map(async set => {
        const values = await readValues(set);
        const claims = claimsOf(values, set.layout);
        return [
          ...[...podsOf(values, set.layout)].map(([name, spec]) => manifest('Pod', name, { spec })),
          ...claims.map(claim => manifest('PersistentVolumeClaim', claim.metadata.name, claim)),
        ];
      }),
    );
    const applied = (
      await Promise.all(['inference.yaml', 'model-cache-claim.yaml'].map(readManifests))
    ).flat();
    expect(await faultsOf([...manifests.flat(), ...applied])).toEqual([]);
  });

  test('refuse a misspelt key of a container', async () => {
    const containers = [{ name: 'mlflow-sidecar', image: 'mlflow-sidecar', restartPolcy: 'Always' }];
    const faults = await faultsOf([manifest('Pod', 'worker', { spec: { containers } })]);
    expect(faults).toContainEqual(expect.stringContaining('restartPolcy'));
  });
});

test('the claim is one that the values name', async () => {
  const { metadata } = await readClaim();
  const named = await Promise.all(
    SETS.map(async set =>
      [...podsOf(await readValues(set), set.layout).values()].flatMap(({ volumes }) =>
        volumes.flatMap(({ persistentVolumeClaim: claim }) => claim?.claimName ?? []),
      ),
    ),
  );
  expect(new Set(named.flat())).toEqual(new Set([metadata.name]));
});

describe('the service that follows a model', () => {
  const deployment = z.looseObject({ spec: z.object({ template: z.object({ spec: PodSpecSchema }) }) });
  const read = async () => deployment.parse((await readManifests('inference.yaml'))[0]).spec.template.spec;

  test('has a model before its sidecar starts, and both before itself', async () => {
    const pod = await read();
    expectSafe(pod);
    expectShared(pod, 'service');
    expect(oursIn(pod)).toEqual([...fetchersIn(pod), ...sidecarsIn(pod)]);
    expect(pod.containers.map(({ name }) => name)).toEqual(['service']);
  });

  test('and the fetch and the sidecar mean one model in one cache, where the helper looks', async () => {
    const pod = await read();
    const service = environmentOf(containerOf(pod, 'service'));
    const [fetcher, sidecar] = oursIn(pod);
    const [before, beside] = [fetcher, sidecar].map(one => (one ? environmentOf(one) : {}));
    expect(fetcher?.args[1]).toBe(service['MODEL_URI']);
    expect(beside?.['SIDECAR_MODELS']).toBe(service['MODEL_URI']);
    expect(service['SIDECAR_URL']).toBe(`http://127.0.0.1:${beside?.['SIDECAR_PORT']}`);
    for (const name of ['SIDECAR_CACHE_DIR', 'MLFLOW_TRACKING_URI', 'SIDECAR_CACHE_MAX_BYTES']) {
      expect(before?.[name]).toBe(beside?.[name]);
    }
    expect(beside?.['SIDECAR_CACHE_DIR']).toBe(service['SIDECAR_CACHE_DIR']);
  });

  test('a quota in bytes stands where the volume reports the node’s disk', async () => {
    const pod = await read();
    const [limit] = pod.volumes.filter(({ name }) => name === 'model-cache').map(({ emptyDir }) => emptyDir);
    const quota = environmentOf(containerOf(pod, 'mlflow-sidecar'))['SIDECAR_CACHE_MAX_BYTES'];
    expect(quota).toMatch(/^\d+$/);
    expect(bytesOf(quota)).toBeLessThan(bytesOf(limit?.sizeLimit) * (1 - FREE));
  });
});
