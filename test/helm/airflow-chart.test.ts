/**
 * The official chart's archive is not to be had from a package registry, so that these run only where somebody has it:
 *
 *     AIRFLOW_CHARTS=airflow-1.22.0.tgz npm test -- test/helm/airflow-chart.test.ts
 *
 * With `-u` behind it the keys of a release are recorded, which the other tests then go by.
 */
import { execFile } from 'node:child_process';
import { resolve } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';
import { z } from 'zod';
import { fileOf, recordOf } from '../support/airflow-keys.ts';
import { expectSafe, expectShared, expectWritable } from '../support/airflow-pod.ts';
import { CHARTS, DIR, SETS, type ValuesSet } from '../support/airflow-values.ts';
import { fetchersIn, type PodSpec, PodSpecSchema, sidecarsIn, withAny } from '../support/pod.ts';

const HELM = resolve(import.meta.dirname, '../../.cache/helm/helm');
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
const LARGE = { maxBuffer: 2 ** 26 };
const execute = promisify(execFile);

const ManifestSchema = z.looseObject({
  kind: z.string(),
  metadata: z.looseObject({ labels: z.record(z.string(), z.string()).default({}) }),
  spec: z
    .looseObject({
      template: z.object({ spec: z.looseObject({ volumes: z.array(z.unknown()).nullish() }) }).optional(),
      volumeClaimTemplates: z.array(z.object({ metadata: z.object({ name: z.string() }) })).default([]),
    })
    .optional(),
  data: z.record(z.string(), z.string()).optional(),
});

async function helm(...args: readonly string[]): Promise<string> {
  return (await execute(HELM, args, LARGE)).stdout;
}

/** The pods of a rendered chart by component; the KubernetesExecutor's, which the scheduler makes, is `task`. */
async function rendered(chart: string, { files }: ValuesSet): Promise<ReadonlyMap<string, PodSpec>> {
  const text = await helm(
    'template',
    'airflow',
    chart,
    ...DATABASE,
    ...files.map(file => `--values=${DIR}/${file}`),
  );
  const pods = new Map<string, PodSpec>();
  for (const document of parseAllDocuments(text)) {
    const manifest = ManifestSchema.safeParse(document.toJS());
    if (!manifest.success) continue;
    const { metadata, spec, data } = manifest.data;
    const pod = spec?.template?.spec;
    const claims = spec?.volumeClaimTemplates.map(claim => claim.metadata) ?? [];
    const volumes = [...(pod?.volumes ?? []), ...claims];
    if (pod) pods.set(metadata.labels['component'] ?? '', PodSpecSchema.parse({ ...pod, volumes }));
    const task = data?.['pod_template_file.yaml'];
    if (task !== undefined) pods.set('task', PodSpecSchema.parse(parse(task).spec));
  }
  return pods;
}

describe.skipIf(GIVEN.length === 0).each(GIVEN.length > 0 ? GIVEN : ['that somebody has'])(
  'a chart %s',
  path => {
    const version = async () => String(parse(await helm('show', 'chart', path)).version);

    test('has the keys that are recorded', async () => {
      const { stdout } = await execute('tar', ['-xOf', path, 'airflow/values.schema.json'], LARGE);
      await expect(recordOf(JSON.parse(stdout))).toMatchFileSnapshot(fileOf(await version()));
    });

    test('has our containers in the pods that the values name, and in no other', async () => {
      const chart = await version();
      for (const set of SETS.filter(({ layout }) => CHARTS[layout].includes(chart))) {
        const pods = await rendered(path, set);
        for (const [component, pod] of pods) {
          expectSafe(pod);
          expectShared(pod, MAIN[component] ?? '');
          if (sidecarsIn(pod).length > 0) expectWritable(pod);
        }
        expect(withAny(pods, sidecarsIn), set.title).toEqual(set.sidecars);
        expect(withAny(pods, fetchersIn), set.title).toEqual(set.title.includes('fetch') ? ['task'] : []);
      }
    }, 120_000);
  },
);
