import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parse } from 'yaml';
import { z } from 'zod';
import { type Manifest, render, type Values } from './helm.ts';
import { type Container, containerOf, type PodSpec, PodSpecSchema } from './pod.ts';

export const CHART = 'helm/mlflow-sidecar';
export const CHART_DIR = resolve(import.meta.dirname, '../..', CHART);

const CI = join(CHART_DIR, 'ci');
const ENDING = '-values.yaml';

/** The sets of values in the chart's `ci`, where tools for charts look for them. */
export const SETS: readonly string[] = readdirSync(CI)
  .filter(name => name.endsWith(ENDING))
  .map(name => name.slice(0, -ENDING.length));

export const readSet = (name: string): Values =>
  z.record(z.string(), z.unknown()).parse(parse(readFileSync(join(CI, name + ENDING), 'utf8')));

const rendered = new Map<string, Promise<readonly Manifest[]>>();

/** What the chart makes of one of its sets. */
export function manifestsOf(set: string): Promise<readonly Manifest[]> {
  const known = rendered.get(set) ?? render(CHART, readSet(set));
  rendered.set(set, known);
  return known;
}

/** The one of this kind. */
export function one(manifests: readonly Manifest[], kind: string): Manifest {
  const [found, ...others] = manifests.filter(manifest => manifest.kind === kind);
  if (found !== undefined && others.length === 0) return found;
  throw new Error(`There are ${others.length + (found ? 1 : 0)} of kind ${kind}.`);
}

const WorkloadSchema = z.object({ spec: z.object({ template: z.object({ spec: PodSpecSchema }) }) });
const PodSchema = z.object({ spec: PodSpecSchema });

/** The pod of the Deployment or the DaemonSet. */
export function workloadOf(manifests: readonly Manifest[]): PodSpec {
  const [workload] = manifests.filter(({ kind }) => kind === 'Deployment' || kind === 'DaemonSet');
  return WorkloadSchema.parse(workload).spec.template.spec;
}

export const sidecarOf = (manifests: readonly Manifest[]): Container =>
  containerOf(workloadOf(manifests), 'mlflow-sidecar');

/** The pod that `helm test` starts, where there is one. */
export const testPodsIn = (manifests: readonly Manifest[]): readonly PodSpec[] =>
  manifests.filter(({ kind }) => kind === 'Pod').map(manifest => PodSchema.parse(manifest).spec);

export const podsIn = (manifests: readonly Manifest[]): readonly PodSpec[] => [
  workloadOf(manifests),
  ...testPodsIn(manifests),
];

const ConfigMapSchema = z.object({ data: z.object({ 'config.yaml': z.string() }) });

/** The sidecar's YAML file. */
export function configFileIn(manifests: readonly Manifest[]): string {
  return ConfigMapSchema.parse(one(manifests, 'ConfigMap')).data['config.yaml'];
}
