/**
 * The official chart's archive is not to be had from a package registry, so that these run only where somebody has it:
 *
 *     AIRFLOW_CHARTS=airflow-1.22.0.tgz npm test -- test/helm/airflow-chart.test.ts
 *
 * With `-u` behind it the keys of a release are recorded, which the other tests then go by.
 */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';
import { fileOf, recordOf } from '../support/airflow-keys.ts';
import { expectSafe, expectShared, expectWritable } from '../support/airflow-pod.ts';
import { CHARTS, DIR, SETS, type ValuesSet } from '../support/airflow-values.ts';
import { helm, type Manifest, manifestsIn } from '../support/helm.ts';
import { faultsOf } from '../support/kubernetes.ts';
import { fetchersIn, type PodSpec, PodSpecSchema, sidecarsIn, withAny } from '../support/pod.ts';

const GIVEN = (process.env['AIRFLOW_CHARTS'] ?? '').split(',').filter(Boolean);
/** What the chart asks for and has nothing to do with us. */
const DATABASE = ['--set=postgresql.enabled=false', '--set=data.metadataConnection.host=database'];
/** Airflow's own container in each. */
const MAIN: Readonly<Record<string, string>> = {
  scheduler: 'scheduler',
  triggerer: 'triggerer',
  worker: 'worker',
  task: 'base',
};
const execute = promisify(execFile);

const WorkloadSchema = z.looseObject({
  metadata: z.looseObject({ labels: z.looseObject({ component: z.string() }) }),
  spec: z.looseObject({
    template: z.object({ spec: z.looseObject({ volumes: z.array(z.unknown()).nullish() }) }),
    volumeClaimTemplates: z.array(z.object({ metadata: z.object({ name: z.string() }) })).default([]),
  }),
});
const TemplateSchema = z.object({ data: z.object({ 'pod_template_file.yaml': z.string() }) });

/** What the chart makes of these files; the pod that the KubernetesExecutor makes for each task is one of the manifests, too. */
async function rendered(chart: string, { files }: ValuesSet): Promise<readonly Manifest[]> {
  const values = files.map(file => `--values=${DIR}/${file}`);
  const manifests = manifestsIn(await helm('template', 'airflow', chart, ...DATABASE, ...values));
  const tasks = manifests.flatMap(manifest => {
    const template = TemplateSchema.safeParse(manifest).data;
    return template === undefined ? [] : manifestsIn(template.data['pod_template_file.yaml']);
  });
  return [...manifests, ...tasks];
}

/** The pods by component; that of a task is `task`. */
function podsOf(manifests: readonly Manifest[]): ReadonlyMap<string, PodSpec> {
  const pods = new Map<string, PodSpec>();
  for (const manifest of manifests) {
    if (manifest.kind === 'Pod') pods.set('task', PodSpecSchema.parse(manifest['spec']));
    const { data } = WorkloadSchema.safeParse(manifest);
    if (data === undefined) continue;
    const { template, volumeClaimTemplates: claims } = data.spec;
    const volumes = [...(template.spec.volumes ?? []), ...claims.map(claim => claim.metadata)];
    pods.set(data.metadata.labels.component, PodSpecSchema.parse({ ...template.spec, volumes }));
  }
  return pods;
}

describe.each(GIVEN)('a chart %s', path => {
  const version = async () => String(parse(await helm('show', 'chart', path)).version);

  test('has the keys that are recorded', async () => {
    const { stdout } = await execute('tar', ['-xOf', path, 'airflow/values.schema.json'], {
      maxBuffer: 2 ** 24,
    });
    await expect(recordOf(JSON.parse(stdout))).toMatchFileSnapshot(fileOf(await version()));
  });

  test('has our containers in the pods that the values name, and in no other', async () => {
    const chart = await version();
    for (const set of SETS.filter(({ layout }) => CHARTS[layout].includes(chart))) {
      const manifests = await rendered(path, set);
      expect(await faultsOf(manifests), set.title).toEqual([]);
      const pods = podsOf(manifests);
      for (const [component, pod] of pods) {
        expectSafe(pod);
        expectShared(pod, MAIN[component] ?? '');
        if (sidecarsIn(pod).length > 0) expectWritable(pod);
      }
      expect(withAny(pods, sidecarsIn), set.title).toEqual(set.sidecars);
      expect(withAny(pods, fetchersIn), set.title).toEqual(set.title.includes('fetch') ? ['task'] : []);
    }
  }, 300_000);
});
