import { execFile } from 'node:child_process';
import { request } from 'node:http';
import { resolve } from 'node:path';
import { text } from 'node:stream/consumers';
import { promisify } from 'node:util';
import { expect, onTestFinished, test } from 'vitest';
import { CHART, manifestsOf, readSet, sidecarOf, testPodsIn } from '../support/chart.ts';
import { mounted, TOKEN } from '../support/chart-config.ts';
import { type Manifest, render } from '../support/helm.ts';
import { commandOf, environmentOf } from '../support/pod.ts';
import { ScriptedMlflow } from '../support/scripted-mlflow.ts';
import { type RunningSidecar, startSidecar } from '../support/sidecar.ts';

const MAIN = resolve(import.meta.dirname, '../../dist/main.js');
const execute = promisify(execFile);

const HOST = 'release-mlflow-sidecar.default:5080';
const BEARER = `Bearer ${TOKEN}`;

/** The sidecar as its pod has it, but for the port; at an address that its own host check takes. */
async function started(manifests: readonly Manifest[]): Promise<RunningSidecar> {
  const sidecar = await startSidecar({ ...(await mounted(manifests)), SIDECAR_PORT: '0' });
  onTestFinished(async () => void (await sidecar.stop()));
  return { ...sidecar, url: sidecar.url.replace('0.0.0.0', '127.0.0.1') };
}

interface Call {
  readonly method?: string;
  readonly host?: string;
  readonly authorization?: string;
}

/** The answer, by default to who comes by the Service's name and shows the token. */
function answerTo(
  url: string,
  { method, host = HOST, authorization = BEARER }: Call = {},
): Promise<{ readonly status: unknown; readonly body: string }> {
  return new Promise((answered, reject) => {
    request(url, { method, headers: { host, authorization } }, answer => {
      text(answer).then(body => answered({ status: answer.statusCode, body }), reject);
    })
      .once('error', reject)
      .end();
  });
}

const asked = async (url: string, call?: Call) => (await answerTo(url, call)).status;

test('kubelet’s probes, at the pod’s address, are answered; calls need a name of the Service and the token', async () => {
  const manifests = await manifestsOf('minimal');
  const { url } = await started(manifests);
  const { startupProbe, readinessProbe } = sidecarOf(manifests);
  for (const probe of [startupProbe, readinessProbe])
    expect(await asked(url + Object(probe).httpGet.path, { host: '10.1.2.3:5080', authorization: '' })).toBe(
      200,
    );
  const status = `${url}/v1/status`;
  expect(await asked(status)).toBe(200);
  expect(await asked(status, { authorization: '' })).toBe(401);
  expect(await asked(status, { host: '10.1.2.3:5080' })).toBe(403);
});

test('helm test’s pod succeeds beside it, and fails with another token and where nobody is', async () => {
  const manifests = await manifestsOf('minimal');
  const sidecar = await started(manifests);
  const [container] = testPodsIn(manifests).flatMap(pod => pod.containers);
  if (container === undefined) throw new Error('There is no container.');
  const run = (env: Readonly<Record<string, string>>) =>
    execute(process.execPath, [MAIN, ...container.args], { env: { ...env, SIDECAR_URL: sidecar.url } });
  const env = environmentOf(container, { token: TOKEN });
  expect(env['SIDECAR_URL']).toBe(`http://${HOST}`);
  await expect(run(env)).resolves.toMatchObject({ stderr: '' });
  await expect(run({ SIDECAR_TOKEN: 'another' })).rejects.toMatchObject({ code: 1 });
  await sidecar.stop();
  await expect(run(env)).rejects.toMatchObject({ code: 1 });
});

test('on loopback the probes’ commands say the same', async () => {
  const manifests = await manifestsOf('behind-a-proxy');
  const sidecar = await started(manifests);
  const { startupProbe, livenessProbe, readinessProbe } = sidecarOf(manifests);
  const env = { SIDECAR_PORT: new URL(sidecar.url).port };
  for (const probe of [startupProbe, livenessProbe, readinessProbe]) {
    const [program, ...args] = commandOf(probe);
    expect(program).toBe('mlflow-sidecar');
    await expect(execute(process.execPath, [MAIN, ...args], { env })).resolves.toMatchObject({ stderr: '' });
  }
});

test('what is configured can be loaded by the Service’s name, and nothing else', async () => {
  const mlflow = await ScriptedMlflow.start();
  onTestFinished(() => mlflow.close());
  for (const name of ['topic-classification', 'another'])
    mlflow.addVersion({ name, stage: 'Production', files: { MLmodel: Buffer.from('flavors: {}\n') } });
  const values = { ...readSet('minimal'), mlflow: { trackingUri: mlflow.url } };
  const sidecar = await started(await render(CHART, values));
  const reload = (uri: string) =>
    asked(`${sidecar.url}/v1/reload?on_failure=fail&model_uri=${uri}`, { method: 'POST' });
  expect(await reload('models:/topic-classification/Production')).toBe(200);
  expect(await reload('models:/another/Production')).toBe(403);
});

test('with MLflow’s address alone it starts, and every model is refused until one is allowed', async () => {
  const mlflow = await ScriptedMlflow.start();
  onTestFinished(() => mlflow.close());
  mlflow.addVersion({
    name: 'topic-classification',
    stage: 'Production',
    files: { MLmodel: Buffer.from('flavors: {}\n') },
  });
  const { url } = await started(await render(CHART, { mlflow: { trackingUri: mlflow.url } }));
  expect(await asked(`${url}/readyz`)).toBe(200);
  for (const uri of ['models:/topic-classification/Production', 'models:/nothing/is', 'runs:/abc/model']) {
    const answer = await answerTo(`${url}/v1/reload?on_failure=fail&model_uri=${uri}`, { method: 'POST' });
    expect(answer).toEqual({ status: 403, body: expect.stringContaining('not_allowed') });
  }
});
