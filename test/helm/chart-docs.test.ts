import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';
import { keyOf } from '../../src/config/spec.ts';
import { OPTION_SPECS } from '../../src/config/table.ts';
import { CHART_DIR, configFileIn, manifestsOf, one, readSet, SETS, sidecarOf } from '../support/chart.ts';
import { helm, manifestsIn, render, type Values } from '../support/helm.ts';
import { documentedValues, leavesOf, tableOf } from '../support/helm-docs.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const read = (path: string) => readFile(join(ROOT, path), 'utf8');
const ofChart = (path: string) => readFile(join(CHART_DIR, path), 'utf8');

test('every value has a comment, and the chart’s README the table of them', async () => {
  const yaml = await ofChart('values.yaml');
  const values = documentedValues(yaml);
  const isPart = (leaf: string) => values.some(({ path }) => leaf === path || leaf.startsWith(`${path}.`));
  expect(leavesOf(parse(yaml)).filter(leaf => !isPart(leaf))).toEqual([]);

  const table = tableOf(values);
  const found = /<!-- values -->\n([\s\S]*?)\n<!-- \/values -->/.exec(await ofChart('README.md'))?.[1];
  expect(found, `Between <!-- values --> and <!-- /values --> README.md must hold:\n\n${table}\n`).toBe(
    table,
  );
});

const SchemaSchema = z.looseObject({
  additionalProperties: z.unknown().optional(),
  get properties() {
    return z.record(z.string(), SchemaSchema).optional();
  },
});
type Schema = z.infer<typeof SchemaSchema>;

/** The paths of mappings that take any key, and hold other mappings' keys by name. */
function openIn({ properties, ...schema }: Schema, path: string): readonly string[] {
  if (properties === undefined) return [];
  const inner = Object.entries(properties).flatMap(([key, value]) => openIn(value, `${path}.${key}`));
  return schema.additionalProperties === false ? inner : [path, ...inner];
}

test('the schema knows the values that there are, and refuses every other key', async () => {
  const schema = SchemaSchema.parse(JSON.parse(await ofChart('values.schema.json')));
  expect(openIn(schema, '')).toEqual([]);
  const paths = (known: Schema, path: readonly string[]): readonly string[] =>
    Object.entries(known.properties ?? {}).flatMap(([key, value]) => [
      [...path, key].join('.'),
      ...paths(value, [...path, key]),
    ]);
  const known = paths(schema, []);
  const documented = documentedValues(await ofChart('values.yaml')).map(({ path }) => path);
  expect(known).toEqual(expect.arrayContaining(documented));
  // What Helm itself and parent charts give; the options of the sidecar; what is in a value that has one comment.
  const others = known.filter(
    path => !documented.some(other => other === path || other.startsWith(`${path}.`)),
  );
  expect(others.filter(path => !/^(config|resources)\./.test(path))).toEqual(['global', 'enabled']);
});

/** The chart sets these itself, or they are secrets, or belong to the environment. */
const NOT_IN_CONFIG = [
  ...['mlflow_tracking_uri', 'mlflow_registry_uri', 'mlflow_tracking_server_cert_path'],
  ...['host', 'port', 'token', 'token_file', 'allowed_hosts', 'allow', 'cache_dir', 'models', 'metrics_addr'],
  ...['mlflow_tracking_username', 'mlflow_tracking_username_file', 'mlflow_tracking_password'],
  ...['mlflow_tracking_password_file', 'mlflow_tracking_token', 'mlflow_tracking_token_file'],
];

test('config takes every option of the sidecar that the chart does not set', async () => {
  const { properties } = SchemaSchema.parse(JSON.parse(await ofChart('values.schema.json')));
  const options = OPTION_SPECS.map(keyOf).filter(key => key !== null);
  expect(options).toEqual(expect.arrayContaining(NOT_IN_CONFIG));
  const taken = options.filter(key => !NOT_IN_CONFIG.includes(key));
  expect(Object.keys(properties?.['config']?.properties ?? {}).sort()).toEqual(taken.sort());
});

test('the chart is of this release', async () => {
  const { version } = z.object({ version: z.string() }).parse(JSON.parse(await read('package.json')));
  const { annotations, ...chart } = z
    .looseObject({ annotations: z.record(z.string(), z.string()) })
    .parse(parse(await ofChart('Chart.yaml')));
  expect(chart).toMatchObject({ version, appVersion: version });
  expect(parse(annotations['artifacthub.io/images'] ?? '')).toEqual([
    { name: 'mlflow-sidecar', image: `mlflow-sidecar:${version}` },
  ]);
});

const AlertsSchema = z.array(
  z.looseObject({ alert: z.string(), expr: z.string(), for: z.string().optional() }),
);

test('its alerts are those of docs/metrics.md', async () => {
  const block = /```yaml\n(- alert: [\s\S]*?)```/.exec(await read('docs/metrics.md'))?.[1] ?? '';
  const told = AlertsSchema.parse(parse(block));
  expect(told.length).toBeGreaterThan(0);
  const { groups } = Object(one(await manifestsOf('monitoring'), 'PrometheusRule')['spec']);
  expect(groups[0].rules).toEqual(told.map(alert => expect.objectContaining(alert)));
  for (const { annotations } of groups[0].rules) expect(annotations.summary).toMatch(/\.$/);
});

/** What Helm prints after an install, which `helm template` does not show. */
async function notesOf(set: string, more: Values = {}): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'sidecar-notes-'));
  onTestFinished(() => rm(dir, { recursive: true }));
  await cp(CHART_DIR, dir, { recursive: true });
  const shown =
    'apiVersion: v1\nkind: Notes\nmetadata:\n  name: notes\ntext: {{ include (print $.Template.BasePath "/NOTES.txt") . | toJson }}\n';
  await writeFile(join(dir, 'templates', 'shown.yaml'), shown);
  return String(
    one(await render(dir, { ...readSet(set), ...more }, '--show-only=templates/shown.yaml'), 'Notes')['text'],
  );
}

test('the notes say how to reach it, with what, and what may be asked for', async () => {
  const notes = await notesOf('minimal');
  expect(notes).toContain('answers at http://release-mlflow-sidecar.default:5080, for http://mlflow:5000');
  expect(notes).toContain(
    "kubectl get secret release-mlflow-sidecar --namespace default --output jsonpath='{.data.token}'",
  );
  expect(notes).toMatch(/\n {2}models:\/topic-classification\/Production\n\nThese are the models/);
  const entries = z
    .array(z.looseObject({ name: z.string(), value: z.string().optional() }))
    .parse(parse(/\n( {2}- name: SIDECAR_TOKEN[\s\S]*)/.exec(notes)?.[1] ?? ''));
  expect(entries.map(({ name }) => name)).toEqual([
    'SIDECAR_TOKEN',
    'SIDECAR_URL',
    'AIRFLOW_CONN_MODEL_SIDECAR',
    'MLFLOW_REGISTRY_URI',
    'MLFLOW_TRACKING_TOKEN',
  ]);
  expect(JSON.parse(entries[2]?.value ?? '')).toMatchObject({ conn_type: 'http', port: 5080 });
});

test('the notes warn of a hostPath, of an emptyDir, and of what a Service shows to others', async () => {
  expect(await notesOf('daemon-set-host-path')).toMatch(
    /outside the restricted and the baseline Pod Security/,
  );
  expect(await notesOf('empty-dir')).toMatch(/emptyDir: what was loaded is gone/);
  expect(await notesOf('ipv6')).toMatch(/WARNING: the Service is reachable from beyond the cluster/);
  expect(await notesOf('minimal')).not.toMatch(/WARNING|emptyDir/);
});

test('the notes say by what schedule models are loaded, and loudly that nothing may be asked for', async () => {
  expect(await notesOf('minimal')).toContain('loaded by the schedule */5 * * * * (UTC)');
  expect(await notesOf('schedules')).toContain('loaded by the schedule */15 * * * * (Europe/Berlin)');
  expect(await notesOf('minimal', { config: { prewarm: '' } })).toMatch(/are loaded when somebody asks/);
  const bare = await notesOf('minimal', { models: [] });
  expect(bare).toMatch(/WARNING: NOTHING MAY BE ASKED FOR YET/);
  expect(bare).not.toMatch(/by the schedule|What may be asked for/);
});

test('the notes warn of what is set and changes nothing', async () => {
  expect(await notesOf('daemon-set', { persistence: { storageClass: 'fast' } })).toMatch(
    /a DaemonSet makes no claim/,
  );
  expect(await notesOf('daemon-set')).not.toMatch(/makes no claim/);
  const rule = { prometheusRule: { enabled: true } };
  expect(await notesOf('minimal', { monitoring: rule })).toMatch(/WARNING: monitoring is off/);
  expect(await notesOf('monitoring')).not.toMatch(/monitoring is off/);
});

test('the README’s command installs the service that the values for Airflow look for', async () => {
  const [, command = ''] = /helm install ([\s\S]*?)\nhelm test/.exec(await ofChart('README.md')) ?? [];
  const args = command.replaceAll('\\\n', ' ').replaceAll("'", '').trim().split(/\s+/);
  const manifests = manifestsIn(await helm('template', ...args));
  expect(one(manifests, 'Service').metadata).toMatchObject({ name: 'mlflow-sidecar', namespace: 'airflow' });
  expect(sidecarOf(manifests).image).toMatch(/^registry\.example\.com\/mlflow-sidecar:/);
  expect(configFileIn(manifests)).toContain('allow:\n- models:/topic-classification/Production\n');
});

test('every set of values is in the README', async () => {
  const readme = await ofChart('README.md');
  for (const set of SETS) expect(readme).toContain(`(ci/${set}-values.yaml)`);
});
