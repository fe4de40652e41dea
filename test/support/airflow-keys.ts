import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { z } from 'zod';
import type { Values } from './airflow-values.ts';

const DIR = resolve(import.meta.dirname, '../helm/airflow-keys');

/** The sections in which our values set something. Below them are lists, texts and Kubernetes' own types. */
const SECTIONS = [
  '',
  'scheduler',
  'scheduler.securityContexts',
  'triggerer',
  'triggerer.securityContexts',
  'workers',
  'workers.persistence',
  'workers.securityContexts',
  'workers.celery',
  'workers.celery.persistence',
  'workers.celery.securityContexts',
  'workers.kubernetes',
];

const TOP = '(top)';

export type Keys = Readonly<Record<string, readonly string[]>>;

const SectionSchema = z.looseObject({ properties: z.record(z.string(), z.unknown()) });

export const fileOf = (chart: string): string => join(DIR, `${chart}.txt`);

/** The keys that the chart of that version has in these sections, as they were recorded from its `values.schema.json`. */
export async function readKeys(chart: string): Promise<Keys> {
  const lines = (await readFile(fileOf(chart), 'utf8')).trimEnd().split('\n');
  return Object.fromEntries(
    lines.map(line => {
      const [section = '', keys = ''] = line.split(': ');
      return [section === TOP ? '' : section, keys.split(' ')];
    }),
  );
}

/** What there is to record of a chart's `values.schema.json`: a line for each section that it has. */
export function recordOf(schema: unknown): string {
  const found = SECTIONS.map(section => [section || TOP, below(schema, section)] as const);
  const lines = found
    .filter(([, keys]) => keys.length > 0)
    .map(([name, keys]) => `${name}: ${keys.join(' ')}`);
  return `${lines.join('\n')}\n`;
}

function below(schema: unknown, section: string): readonly string[] {
  let at = SectionSchema.safeParse(schema);
  for (const key of section.split('.').filter(Boolean))
    at = SectionSchema.safeParse(at.data?.properties[key]);
  return Object.keys(at.data?.properties ?? {}).sort();
}

/** The paths of the keys that the chart does not have. */
export function unknownKeys(values: Values, keys: Keys, section = ''): readonly string[] {
  return Object.entries(values).flatMap(([key, value]) => {
    const path = section === '' ? key : `${section}.${key}`;
    if (!keys[section]?.includes(key)) return [path];
    const inner = z.record(z.string(), z.unknown()).safeParse(value);
    return inner.success && SECTIONS.includes(path) ? unknownKeys(inner.data, keys, path) : [];
  });
}
