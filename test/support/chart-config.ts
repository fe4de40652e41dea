import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { z } from 'zod';
import { loadOptions } from '../../src/config/load.ts';
import type { Options } from '../../src/config/options.ts';
import { configFileIn, sidecarOf, workloadOf } from './chart.ts';
import type { Manifest } from './helm.ts';
import { environmentOf, type PodSpec } from './pod.ts';

/** Where the chart mounts what the sidecar reads. */
const MOUNT = '/etc/mlflow-sidecar';
export const TOKEN = 'the-token';
/** What stands in the Secrets and ConfigMaps that somebody else made, by the names that the files get. */
const CONTENTS: Readonly<Record<string, string>> = {
  token: TOKEN,
  'mlflow-token': 'bearer',
  'mlflow-username': 'user',
  'mlflow-password': 'password',
  'ca.crt': '-----BEGIN CERTIFICATE-----\n',
};

const SettingsSchema = z.object({
  name: z.literal('settings'),
  projected: z.object({
    sources: z.array(
      z.record(z.string(), z.object({ name: z.string(), items: z.array(z.object({ path: z.string() })) })),
    ),
  }),
});

/** The names of the files that the pod finds below `MOUNT`. */
function settingsOf({ volumes }: PodSpec): readonly string[] {
  const { projected } = SettingsSchema.parse(volumes.find(({ name }) => name === 'settings'));
  return projected.sources
    .flatMap(Object.values)
    .flatMap(({ items }) => items.map(({ path }: { path: string }) => path));
}

/** The sidecar's environment as its container has it, with the files that it names in a directory of this test's. */
export async function mounted(manifests: readonly Manifest[]): Promise<Readonly<Record<string, string>>> {
  const dir = await mkdtemp(join(tmpdir(), 'sidecar-chart-'));
  onTestFinished(() => rm(dir, { recursive: true }));
  const contents: Readonly<Record<string, string>> = {
    ...CONTENTS,
    'config.yaml': configFileIn(manifests).replaceAll(MOUNT, dir),
  };
  for (const name of settingsOf(workloadOf(manifests)))
    await writeFile(join(dir, name), contents[name] ?? '');
  const env = environmentOf(sidecarOf(manifests), { url: 'http://proxy:3128' });
  const moved = Object.entries(env).map(([name, value]) => [name, value.replace(MOUNT, dir)]);
  const cache = join(dir, 'cache');
  await mkdir(cache);
  return { ...Object.fromEntries(moved), SIDECAR_CACHE_DIR: cache };
}

/** What the sidecar understands of it. @throws with everything that is wrong */
export async function optionsOf(manifests: readonly Manifest[]): Promise<Options> {
  const { options, faults, warnings } = loadOptions({ env: await mounted(manifests), flags: {} });
  if (options === null || warnings.length > 0) throw new Error(JSON.stringify({ faults, warnings }));
  return options;
}
