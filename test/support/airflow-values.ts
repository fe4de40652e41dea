import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { parse } from 'yaml';
import { z } from 'zod';
import { type Manifest, manifestsIn } from './helm.ts';
import { type PodSpec, PodSpecSchema } from './pod.ts';

export const DIR = resolve(import.meta.dirname, '../../helm/airflow');

/** The folder of the files that set `workers.*`, and that of those that set `workers.celery.*` and `workers.kubernetes.*`. */
export const LAYOUTS = ['before-1.21', 'from-1.21'] as const;
export type Layout = (typeof LAYOUTS)[number];

/** Charts whose keys are recorded in test/helm/airflow-keys, by what fits them. The older layout fits the newer chart, too. */
export const CHARTS: Readonly<Record<Layout, readonly string[]>> = {
  'before-1.21': ['1.18.0', '1.20.0', '1.22.0'],
  'from-1.21': ['1.22.0'],
};

export type Values = { readonly [key: string]: unknown };
const ValuesSchema = z.record(z.string(), z.unknown());

/** Files that are given to Helm together, the later ones over the earlier ones. */
export interface ValuesSet {
  readonly title: string;
  readonly layout: Layout;
  readonly files: readonly string[];
  /** The components that get a sidecar. */
  readonly sidecars: readonly string[];
}

/** Each way to use the files that README.md names. */
export const SETS: readonly ValuesSet[] = LAYOUTS.flatMap(layout => {
  const ways: readonly (readonly [files: readonly string[], sidecars: readonly string[]])[] = [
    [['local-executor.yaml'], ['scheduler']],
    [
      ['local-executor.yaml', 'triggerer.yaml'],
      ['scheduler', 'triggerer'],
    ],
    [[`${layout}/celery-executor.yaml`], ['worker']],
    [
      [`${layout}/celery-executor.yaml`, `${layout}/celery-shared-claim.yaml`, 'triggerer.yaml'],
      ['triggerer', 'worker'],
    ],
    [['kubernetes-service.yaml'], []],
    [['kubernetes-service.yaml', `${layout}/kubernetes-shared-claim.yaml`], []],
    [[`${layout}/kubernetes-fetch.yaml`], []],
  ];
  return ways.map(([files, sidecars]) => ({
    title: `${files.join(' and ')}, chart ${layout}`,
    layout,
    files,
    sidecars,
  }));
});

export async function readValues({ files }: Pick<ValuesSet, 'files'>): Promise<Values> {
  const read = await Promise.all(files.map(file => readFile(join(DIR, file), 'utf8')));
  return read.map(text => ValuesSchema.parse(parse(text))).reduce(merged, {});
}

/** As Helm does it: mappings are merged, everything else is replaced. */
export function merged(under: Values, over: Values): Values {
  const result: Record<string, unknown> = { ...under };
  for (const [key, value] of Object.entries(over)) {
    const [below, above] = [ValuesSchema.safeParse(result[key]), ValuesSchema.safeParse(value)];
    result[key] = below.success && above.success ? merged(below.data, above.data) : value;
  }
  return result;
}

const ComponentSchema = z.looseObject({
  extraInitContainers: z.array(z.unknown()).default([]),
  extraContainers: z.array(z.unknown()).default([]),
  extraVolumes: z.array(z.unknown()).default([]),
  extraVolumeMounts: z.array(z.unknown()).default([]),
  volumeClaimTemplates: z.array(z.unknown()).default([]),
  securityContexts: z.object({ pod: z.record(z.string(), z.unknown()) }).optional(),
});

type Component = z.infer<typeof ComponentSchema>;

const ClaimSchema = z.looseObject({
  metadata: z.object({ name: z.string() }),
  spec: z.looseObject({
    accessModes: z.array(z.string()),
    resources: z.object({ requests: z.object({ storage: z.string() }) }),
  }),
});

export type Claim = z.infer<typeof ClaimSchema>;

/** The claim that is applied beside the chart. */
export async function readClaim(): Promise<Claim> {
  return ClaimSchema.parse(parse(await readFile(join(DIR, 'model-cache-claim.yaml'), 'utf8')));
}

/** Each manifest of a file that is applied without the chart. */
export async function readManifests(file: string): Promise<readonly Manifest[]> {
  return manifestsIn(await readFile(join(DIR, file), 'utf8'));
}

function componentsOf(values: Values, layout: Layout): readonly (readonly [string, Component])[] {
  const workers = ValuesSchema.parse(values['workers'] ?? {});
  const isCelery = values['executor'] === 'CeleryExecutor';
  const isLocal = values['executor'] === 'LocalExecutor';
  const worker = layout === 'from-1.21' ? workers[isCelery ? 'celery' : 'kubernetes'] : workers;
  const given = {
    scheduler: values['scheduler'],
    triggerer: values['triggerer'],
    [isCelery ? 'worker' : 'task']: isLocal ? undefined : (worker ?? {}),
  };
  const present = Object.entries(given).filter(([, component]) => component !== undefined);
  return present.map(([name, component]) => [name, ComponentSchema.parse(component)]);
}

/** The pods that these values change, by component, as far as they say what is in them: the chart adds the rest. */
export function podsOf(values: Values, layout: Layout): ReadonlyMap<string, PodSpec> {
  return new Map(componentsOf(values, layout).map(([name, component]) => [name, podOf(values, component)]));
}

/** The claims that a component's pods have each for themselves. */
export function claimsOf(values: Values, layout: Layout): readonly Claim[] {
  return componentsOf(values, layout).flatMap(([, { volumeClaimTemplates: claims }]) =>
    claims.map(claim => ClaimSchema.parse(claim)),
  );
}

function podOf(values: Values, component: Component): PodSpec {
  const claims = component.volumeClaimTemplates.map(claim => {
    const { name } = ClaimSchema.parse(claim).metadata;
    return { name, persistentVolumeClaim: { claimName: name } };
  });
  const airflow = {
    name: 'airflow',
    image: 'apache/airflow:3.2.1',
    env: [...z.array(z.unknown()).parse(values['env'] ?? []), ...extraEnvOf(values)],
    volumeMounts: component.extraVolumeMounts,
  };
  return PodSpecSchema.parse({
    initContainers: component.extraInitContainers,
    containers: [airflow, ...component.extraContainers],
    volumes: [...component.extraVolumes, ...claims],
    ...(component.securityContexts && { securityContext: component.securityContexts.pod }),
  });
}

/** A text for the chart, which puts it below `env`. */
function extraEnvOf(values: Values): readonly unknown[] {
  return z.array(z.unknown()).parse(parse(z.string().default('').parse(values['extraEnv'])) ?? []);
}
