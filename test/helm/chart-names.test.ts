import { expect, test } from 'vitest';
import { CHART, one, readSet, workloadOf } from '../support/chart.ts';
import { helm, type Manifest, manifestsIn, render } from '../support/helm.ts';
import { faultsOf } from '../support/kubernetes.ts';

const MINIMAL = readSet('minimal');
/** Texts that are numbers, or true, where nobody quotes them. */
const TEXTS = {
  ...MINIMAL,
  fullnameOverride: 'true',
  nameOverride: '1e3',
  mlflow: {
    trackingUri: 'http://mlflow:5000',
    credentials: { existingSecret: '3', usernameKey: '4', passwordKey: '5' },
    caBundle: { configMap: '6', key: '7' },
  },
  token: { existingSecret: '8', key: '9' },
  serviceAccount: { name: '10' },
  priorityClassName: '1000',
  persistence: { size: '21474836480' },
  monitoring: { podMonitor: { enabled: true }, prometheusRule: { enabled: true } },
  networkPolicy: { enabled: true },
};

const named = async (values: object) => {
  const set = Object.entries({ ...TEXTS, ...values }).map(
    ([key, value]) => `--set-json=${key}=${JSON.stringify(value)}`,
  );
  return manifestsIn(await helm('template', '123', CHART, '--namespace=2024', ...set));
};

test('texts that look like numbers stay texts', async () => {
  const manifests = await Promise.all([
    named({}),
    named({ token: { key: '9' } }),
    named({ persistence: { existingClaim: '11' } }),
    named({ kind: 'DaemonSet' }),
  ]);
  expect(await faultsOf(manifests.flat())).toEqual([]);
  const [whole] = manifests;
  expect(workloadOf(whole)).toMatchObject({ priorityClassName: '1000', serviceAccountName: '10' });
  expect(one(whole, 'Pod')).toMatchObject({ spec: { priorityClassName: '1000', serviceAccountName: '10' } });
  for (const { metadata } of whole) expect(metadata).toMatchObject({ namespace: '2024' });
  expect(one(whole, 'Service')).toMatchObject({
    metadata: { name: 'true' },
    spec: { selector: { 'app.kubernetes.io/name': '1e3', 'app.kubernetes.io/instance': '123' } },
  });
});

test('the pod of helm test runs where the sidecar’s may', async () => {
  const values = {
    ...MINIMAL,
    priorityClassName: 'high',
    nodeSelector: { pool: 'models' },
    tolerations: [{ operator: 'Exists' }],
    affinity: { nodeAffinity: { preferredDuringSchedulingIgnoredDuringExecution: [] } },
  };
  const manifests = await render(CHART, { ...values, kind: 'DaemonSet' });
  const { priorityClassName, nodeSelector, tolerations, affinity } = values;
  const expected = { priorityClassName, nodeSelector, tolerations, affinity };
  expect(workloadOf(manifests)).toMatchObject(expected);
  expect(one(manifests, 'Pod')['spec']).toMatchObject(expected);
});

test('the Secret that is made may be kept', async () => {
  const annotations = { 'helm.sh/resource-policy': 'keep' };
  const manifests = await render(CHART, { ...MINIMAL, token: { annotations } });
  expect(one(manifests, 'Secret').metadata).toMatchObject({ annotations });
});

test('a network policy with rules lets DNS through, OpenShift’s too', async () => {
  const { egress, policyTypes } = specOf(await render(CHART, readSet('network-policy')));
  expect(policyTypes).toEqual(['Ingress', 'Egress']);
  const dns = [53, 5353].flatMap(port => ['UDP', 'TCP'].map(protocol => ({ port, protocol })));
  expect(egress[0]).toEqual({ ports: dns });
  const open = specOf(await render(CHART, readSet('network-policy-of-the-namespace')));
  expect(open).toMatchObject({ policyTypes: ['Ingress'] });
  expect(open).not.toHaveProperty('egress');
});

const specOf = (manifests: readonly Manifest[]) => Object(one(manifests, 'NetworkPolicy')['spec']);
