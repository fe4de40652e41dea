import { createServer } from 'node:http';
import { expect, onTestFinished, test } from 'vitest';
import { z } from 'zod';
import { CHART, one, readSet, workloadOf } from '../support/chart.ts';
import { type Manifest, render } from '../support/helm.ts';

const SECRETS = '/api/v1/namespaces/default/secrets/';

/** The answers of a Kubernetes API that knows Secrets alone; gives its address. */
async function clusterWith(secrets: Readonly<Record<string, unknown>>): Promise<string> {
  const verbs = ['get', 'list'];
  const kinds = [{ name: 'secrets', singularName: '', namespaced: true, kind: 'Secret', verbs }];
  const server = createServer((req, res) => {
    const { pathname } = new URL(req.url ?? '', 'http://cluster');
    const found =
      pathname === '/api/v1'
        ? { kind: 'APIResourceList', groupVersion: 'v1', resources: kinds }
        : secrets[pathname.replace(SECRETS, '')];
    const missing = { kind: 'Status', apiVersion: 'v1', status: 'Failure', reason: 'NotFound', code: 404 };
    res.writeHead(found === undefined ? 404 : 200, { 'content-type': 'application/json' });
    res.end(JSON.stringify(found ?? missing));
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void server.close());
  const { port } = z.object({ port: z.number() }).parse(server.address());
  return `http://127.0.0.1:${port}`;
}

const rendered = (cluster: string, values = {}): Promise<readonly Manifest[]> =>
  render(CHART, { ...readSet('minimal'), ...values }, '--dry-run=server', `--kube-apiserver=${cluster}`);

const checksum = (manifests: readonly Manifest[]): unknown =>
  Object(one(manifests, 'Deployment')['spec']).template.metadata.annotations['checksum/token'];

test('an upgrade keeps the token that there is, and restarts nothing for it', async () => {
  const empty = await clusterWith({});
  const first = await rendered(empty);
  const secret = one(first, 'Secret');
  const upgraded = await rendered(await clusterWith({ [secret.metadata.name]: secret }));
  expect(one(upgraded, 'Secret')).toEqual(secret);
  expect(checksum(upgraded)).toBe(checksum(first));
  expect(one(await rendered(empty), 'Secret')['data']).not.toEqual(secret['data']);
});

test('a Secret of one’s own is taken as it is, and none is made', async () => {
  const manifests = await rendered(await clusterWith({}), {
    token: { existingSecret: 'mine', key: 'password' },
  });
  expect(manifests.map(({ kind }) => kind)).not.toContain('Secret');
  expect(checksum(manifests)).toBeUndefined();
  expect(JSON.stringify(workloadOf(manifests).volumes)).toContain(
    '{"name":"mine","items":[{"key":"password","path":"token"}]}',
  );
});

test('a changed configuration restarts the pod', async () => {
  const cluster = await clusterWith({});
  const [before, same, after] = await Promise.all(
    [{}, { service: { port: 80 } }, { config: { log_level: 'debug' } }].map(async values => {
      const { template } = Object(one(await rendered(cluster, values), 'Deployment')['spec']);
      return template.metadata.annotations['checksum/config'];
    }),
  );
  expect(before).toBe(same);
  expect(before).not.toBe(after);
});
