import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { parseAllDocuments, stringify } from 'yaml';
import { z } from 'zod';

const ROOT = resolve(import.meta.dirname, '../..');
const HELM = join(ROOT, '.cache', 'helm', 'helm');
const execute = promisify(execFile);

const ManifestSchema = z.looseObject({
  apiVersion: z.string(),
  kind: z.string(),
  metadata: z.looseObject({ name: z.string(), namespace: z.string().optional() }),
});

/** One document that a chart renders. */
export type Manifest = z.infer<typeof ManifestSchema>;

/** What is set over a chart's own values. */
export type Values = Readonly<Record<string, unknown>>;

/** Helm, with nothing of whoever runs the test. @throws with what it said on its standard error */
export async function helm(...args: readonly string[]): Promise<string> {
  const home = join(ROOT, '.cache', 'helm', 'home');
  const env = {
    PATH: process.env['PATH'],
    HELM_CONFIG_HOME: home,
    HELM_CACHE_HOME: home,
    HELM_DATA_HOME: home,
  };
  return (await execute(HELM, args, { cwd: ROOT, env, maxBuffer: 2 ** 26 })).stdout;
}

/** What `helm template` makes of the chart in this directory of the repository; further flags as Helm has them. */
export async function render(
  chart: string,
  values: Values,
  ...flags: readonly string[]
): Promise<readonly Manifest[]> {
  return withValues(values, async file =>
    manifestsIn(await helm('template', 'release', chart, `--values=${file}`, ...flags)),
  );
}

/** The words with which Helm refuses these values. @throws where it takes them */
export async function refusal(chart: string, values: Values): Promise<string> {
  const outcome = await withValues(values, file =>
    helm('template', 'release', chart, `--values=${file}`).catch((error: unknown) => error),
  );
  if (outcome instanceof Error) return outcome.message;
  throw new Error(`Helm takes these values of ${chart}: ${JSON.stringify(values)}`);
}

/** @throws ZodError where a document is none of Kubernetes' at all */
export function manifestsIn(text: string): readonly Manifest[] {
  return parseAllDocuments(text)
    .map(document => document.toJS())
    .filter(document => document !== null)
    .map(document => ManifestSchema.parse(document));
}

async function withValues<T>(values: Values, use: (file: string) => Promise<T>): Promise<T> {
  const directory = await mkdtemp(join(tmpdir(), 'sidecar-helm-'));
  try {
    const file = join(directory, 'values.yaml');
    await writeFile(file, stringify(values));
    return await use(file);
  } finally {
    await rm(directory, { recursive: true });
  }
}
