import { describe, expect, test } from 'vitest';
import { CHART, manifestsOf, one, readSet, SETS, testPodsIn } from '../support/chart.ts';
import { helm, manifestsIn, refusal, render } from '../support/helm.ts';
import { faultsOf } from '../support/kubernetes.ts';

const MINIMAL = readSet('minimal');

test('helm lint finds nothing, whatever is set', async () => {
  expect(SETS.length).toBeGreaterThanOrEqual(12);
  const files = SETS.map(set => `${CHART}/ci/${set}-values.yaml`);
  const outputs = await Promise.all(files.map(file => helm('lint', '--strict', CHART, `--values=${file}`)));
  for (const output of outputs) expect(output).toContain('1 chart(s) linted, 0 chart(s) failed');
});

test('every manifest of every set is one of Kubernetes’, or of the Prometheus operator', async () => {
  const manifests = (await Promise.all(SETS.map(manifestsOf))).flat();
  expect(new Set(manifests.map(({ kind }) => kind))).toEqual(
    new Set([
      'ConfigMap',
      'DaemonSet',
      'Deployment',
      'NetworkPolicy',
      'PersistentVolumeClaim',
      'Pod',
      'PodMonitor',
      'PrometheusRule',
      'Secret',
      'Service',
      'ServiceAccount',
    ]),
  );
  expect(await faultsOf(manifests)).toEqual([]);
}, 120_000);

test('what is none of theirs is found', async () => {
  const manifests = [...(await manifestsOf('monitoring'))];
  const [service, monitor] = ['Service', 'PodMonitor'].map(kind => one(manifests, kind));
  const faults = await faultsOf(
    [
      { ...service, spec: { portz: [] } },
      { ...monitor, spec: { podMetricsEndpoints: [{ port: 'metrics', every: '15s' }] } },
      { apiVersion: 'apps/v1', kind: 'Deploiment', metadata: { name: 'a' } },
    ].map(manifest => ({ apiVersion: 'v1', kind: '', metadata: { name: 'a' }, ...manifest })),
    ['1.37'],
  );
  expect(faults.join('\n')).toMatch(/'portz' was unexpected/);
  expect(faults.join('\n')).toMatch(/'every' was unexpected/);
  expect(faults.join('\n')).toMatch(/'selector' is a required property/);
  expect(faults.join('\n')).toMatch(/Couldn't find schema for kind Deploiment/);
});

test('with one value and a model the namespace has a service, its claim and a token, and nothing else', async () => {
  const manifests = await manifestsOf('minimal');
  expect(manifests.map(({ kind }) => kind).sort()).toEqual([
    'ConfigMap',
    'Deployment',
    'PersistentVolumeClaim',
    'Pod',
    'Secret',
    'Service',
    'ServiceAccount',
  ]);
  expect(one(manifests, 'Deployment')).toMatchObject({
    spec: { replicas: 1, strategy: { type: 'Recreate' } },
  });
  expect(one(manifests, 'PersistentVolumeClaim')).toMatchObject({
    spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '20Gi' } } },
  });
  expect(one(manifests, 'ServiceAccount')).toMatchObject({ automountServiceAccountToken: false });
  const { data } = one(manifests, 'Secret');
  expect(data).toEqual({ token: expect.any(String) });
  expect(Buffer.from(Object.values(data ?? {}).join(), 'base64').toString()).toMatch(/^[A-Za-z0-9]{48}$/);
});

test('a DaemonSet’s pods are asked from their own nodes, and have no claim to share', async () => {
  const manifests = await manifestsOf('daemon-set');
  expect(one(manifests, 'Service')).toMatchObject({ spec: { internalTrafficPolicy: 'Local' } });
  expect(one(await manifestsOf('minimal'), 'Service')).not.toHaveProperty('spec.internalTrafficPolicy');
  expect(manifests.map(({ kind }) => kind)).not.toContain('PersistentVolumeClaim');
});

test('the Service leads to the sidecar’s pods, and to none that helm test starts', async () => {
  for (const set of SETS) {
    const manifests = await manifestsOf(set);
    const { selector } = Object(one(manifests, 'Service')['spec']);
    const workload = manifests.find(({ kind }) => ['Deployment', 'DaemonSet'].includes(kind));
    const spec = Object(workload?.['spec']);
    expect(spec.template.metadata.labels).toMatchObject(selector);
    expect(spec.selector).toEqual({ matchLabels: selector });
    for (const pod of manifests.filter(({ kind }) => kind === 'Pod'))
      expect(pod.metadata['labels']).not.toMatchObject(selector);
  }
});

test('helm test --logs finds one container, of a pod that is still there', async () => {
  for (const set of SETS) {
    for (const pod of (await manifestsOf(set)).filter(({ kind }) => kind === 'Pod')) {
      expect(pod.metadata['annotations']).toEqual({
        'helm.sh/hook': 'test',
        'helm.sh/hook-delete-policy': 'before-hook-creation',
      });
      const { containers, initContainers } = Object(pod['spec']);
      expect(containers).toHaveLength(1);
      expect(initContainers).toBeUndefined();
    }
  }
  expect(testPodsIn(await manifestsOf('minimal'))).toHaveLength(1);
});

test('monitoring, network policy and what Prometheus looks for are there when they are asked for', async () => {
  const kinds = ['NetworkPolicy', 'PodMonitor', 'PrometheusRule'];
  const off = (await manifestsOf('minimal')).map(({ kind }) => kind);
  for (const kind of kinds) expect(off).not.toContain(kind);
  const all = { podMonitor: { enabled: true }, prometheusRule: { enabled: true } };
  const on = await render(CHART, { ...MINIMAL, monitoring: all, networkPolicy: { enabled: true } });
  for (const kind of kinds) expect(on.map(manifest => manifest.kind)).toContain(kind);
});

describe('Helm refuses', () => {
  test.each([
    ['no address of MLflow', { mlflow: {} }, /mlflow\.trackingUri must be set to MLflow's address/],
    ['a user name in it', { mlflow: { trackingUri: 'http://me:secret@mlflow' } }, /without a user name/],
    ['a misspelt key', { model: [] }, /Additional property model is not allowed/],
    ['one further down', { persistence: { sise: '1Gi' } }, /Additional property sise is not allowed/],
    ['one of the sidecar’s options', { config: { prewarms: '@daily' } }, /Additional property prewarms/],
    [
      'an option that the chart sets',
      { config: { allow: ['*'] } },
      /Additional property allow is not allowed/,
    ],
    ['a secret in the file', { config: { token: 'x' } }, /Additional property token is not allowed/],
    ['a kind of its own', { kind: 'StatefulSet' }, /kind/],
    ['a hostPath for a Deployment', { persistence: { hostPath: '/x' } }, /is for kind: DaemonSet/],
    ['a Secret without keys', { mlflow: { credentials: { existingSecret: 'mlflow' } } }, /set tokenKey, or/],
    ['keys without a Secret', { mlflow: { credentials: { tokenKey: 'token' } } }, /set existingSecret/],
    ['two sets of authorities', { mlflow: { caBundle: { configMap: 'a', secret: 'b' } } }, /set one of them/],
    ['loopback and nobody before it', { host: '127.0.0.1' }, /add a proxy to extraContainers/],
    ['a label of the chart’s', { podLabels: { 'app.kubernetes.io/name': 'x' } }, /which is the chart's own/],
    ['a scheme before the image', { image: { repository: 'https://registry/x' } }, /image\.repository/],
    ['a name with a dot', { fullnameOverride: 'a.b' }, /fullnameOverride/],
    ['a part of the name with a dot', { nameOverride: 'a.b' }, /nameOverride/],
    ['a name that begins with a digit', { fullnameOverride: '1abc' }, /fullnameOverride/],
    [
      'a * where what is allowed comes from the models',
      { models: ['models:/a*/1'] },
      /whose \* would let more/,
    ],
  ])('%s', async (_what, values, words) => {
    const mlflow = { ...Object(MINIMAL['mlflow']), ...Object(Object(values).mlflow) };
    const missing = Object.keys(Object(Object(values).mlflow ?? { any: 1 })).length === 0;
    const all = { ...MINIMAL, ...values, mlflow: missing ? {} : mlflow };
    expect(await refusal(CHART, all)).toMatch(words);
  });

  test.each(['1abc', 'a.b'])(
    'the release %s, whose name no Service may have, unless another is set',
    async release => {
      const args = ['template', release, CHART, '--set=mlflow.trackingUri=http://mlflow:5000'];
      await expect(helm(...args)).rejects.toThrow(
        /-mlflow-sidecar is no name for a Service.*set fullnameOverride/,
      );
      const manifests = manifestsIn(await helm(...args, '--set=fullnameOverride=models'));
      expect(one(manifests, 'Service').metadata.name).toBe('models');
    },
  );
});
