import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { atMost } from '../support/limits.ts';
import { loadOffline, train, whileFrozen } from '../support/real-mlflow.ts';
import { type Reply, reload, reloadReport, reloadUntil } from '../support/reload.ts';
import { type RunningSidecar, startSidecar } from '../support/sidecar.ts';
import { RETRAINED_NAME, UNSTAGED_NAME } from './global-setup.ts';
import { servers } from './servers.ts';

const TOPIC = 'models:/topic-classification/Production';
const SENTIMENT = 'models:/sentiment-analysis/Production';

const OVERHEAD_MS = 250;

/** The tests follow one another, as the demo tells them. */
describe('on a real MLflow 3.17.2', () => {
  const [mlflow] = servers.filter(server => server.version === '3.17.2');
  if (mlflow === undefined) throw new Error('The global setup started no MLflow 3.17.2.');
  let sidecar: RunningSidecar;

  beforeAll(async () => {
    sidecar = await startSidecar({
      MLFLOW_TRACKING_URI: mlflow.url,
      SIDECAR_MODELS: `${TOPIC},${SENTIMENT}`,
    });
  });

  afterAll(async () => {
    await sidecar.stop();
  });

  test('the first reload of each model gives the success report of the incident', async () => {
    for (const uri of [TOPIC, SENTIMENT]) {
      const name = uri.split('/')[1] ?? '';
      const runId = mlflow.registered.find(one => one.name === name)?.run_id;
      const { status, text } = await reloadReport(sidecar.url, uri);
      expect(status).toBe(200);
      const lines = text.trimEnd().split('\n');
      expect(lines.slice(0, 6)).toEqual([
        `🔄 Reloading ${name}...`,
        `📥 Loading model from: ${uri}`,
        `   🔗 MLflow URI: ${mlflow.url}`,
        '✅ Model loaded successfully',
        '   📌 Version: 1',
        `   🔖 Run ID: ${runId?.slice(0, 8)}...`,
      ]);
      expect(lines.slice(6)).toEqual([
        expect.stringMatching(/^ {3}📅 Created: 1\d{9}(\.\d+)?$/),
        '   🎯 Stage: Production',
        expect.stringMatching(
          /^ {3}⏱️ Loaded in \d+\.\d\d s \(\d+ KiB, 5 files\) -> \/.+\/v1\/snapshots\/[^/]+$/,
        ),
        `✅ ${name} reloaded successfully`,
        '',
        '✅ Model reload task complete',
      ]);
    }
  });

  test('a reload of everything configured answers a list, unchanged', async () => {
    const response = await fetch(`${sidecar.url}/v1/reload`, { method: 'POST' });
    expect(response.status).toBe(200);
    expect(await response.json()).toMatchObject({
      status: 'unchanged',
      models: [
        { model_uri: TOPIC, status: 'unchanged', version: '1', stage: 'Production', aliases: ['champion'] },
        { model_uri: SENTIMENT, status: 'unchanged', version: '1' },
      ],
    });
  });

  test('Python loads both directories with the network off and predicts', async () => {
    const replies = await Promise.all([TOPIC, SENTIMENT].map(uri => reload(sidecar.url, uri)));
    const loaded = await loadOffline('3.17.2', replies.map(pathOf));
    expect(loaded.map(one => one.predictions)).toEqual([
      ['sport', expect.any(String)],
      [expect.any(String), 'negative'],
    ]);
  });

  test('a frozen MLflow costs refresh_wait_s once, then nothing, and is back within 12 s of waking', async () => {
    await whileFrozen(mlflow.pid, async () => {
      const first = await reload(sidecar.url, TOPIC);
      expect(first.status).toBe(200);
      expect(first.outcome).toMatchObject({ status: 'stale', version: '1', changed: false, source: 'cache' });
      expect(first.outcome.warning?.code).toBe('mlflow_timeout');
      expect(first.ms).toBeLessThan(atMost(2_000 + OVERHEAD_MS));
      const second = await reload(sidecar.url, TOPIC, { refresh_wait_s: 30 });
      expect(second.outcome).toMatchObject({ status: 'stale', version: '1', path: first.outcome.path });
      expect(second.ms).toBeLessThan(atMost(50));
    });
    expect(await reloadUntil(sidecar.url, TOPIC, 'unchanged', atMost(12_000))).not.toBeNull();
  });

  test('a frozen MLflow and nothing cached is failed at the deadline, and no longer', async () => {
    const reply = await whileFrozen(mlflow.pid, () =>
      reload(sidecar.url, 'models:/sentiment-analysis/latest', { deadline_s: 1 }),
    );
    expect(reply.ms).toBeLessThan(atMost(1_000 + OVERHEAD_MS));
    expect(reply.status).toBe(200);
    expect(reply.outcome).toMatchObject({ status: 'failed', path: null, refreshing: true });
    expect(reply.outcome.warning?.code).toBe('deadline_exceeded');
    expect(reply.outcome.warning?.hint).toContain('lazy-loaded on first prediction');
  });

  test('a model with no version in Production is missing, with a hint and no failed task', async () => {
    const uri = `models:/${UNSTAGED_NAME}/Production`;
    const { status, outcome } = await reload(sidecar.url, uri);
    expect(status).toBe(200);
    expect(outcome).toMatchObject({ status: 'missing', path: null, version: null });
    expect(outcome.warning?.code).toBe('no_version_in_stage');
    expect(outcome.warning?.hint).toContain('This may be expected if no model is in Production stage yet.');
    const { text } = await reloadReport(sidecar.url, uri);
    expect(text).toContain(
      `   Model URI: ${uri}\n   This may be expected if no model is in Production stage yet.\n`,
    );
    expect(text).toMatch(/^❌ Failed to load model: /m);
    expect(text).toContain('   (Model will be lazy-loaded on first prediction)\n');
    const refused = await fetch(
      `${sidecar.url}/v1/reload?on_failure=fail&model_uri=${encodeURIComponent(uri)}`,
      {
        method: 'POST',
      },
    );
    expect(refused.status).toBe(404);
    expect(await refused.json()).toMatchObject({ code: 'no_version_in_stage' });
  });

  test('a reload after a training gives the new version, and the old directory stays', async () => {
    const uri = `models:/${RETRAINED_NAME}/Production`;
    const before = await reload(sidecar.url, uri);
    expect(before.outcome).toMatchObject({ status: 'loaded', version: '1', previous_version: null });
    const [trained] = await train('3.17.2', mlflow.url, [RETRAINED_NAME]);
    const after = await reload(sidecar.url, uri);
    expect(after.outcome).toMatchObject({
      status: 'loaded',
      version: '2',
      previous_version: '1',
      changed: true,
      run_id: trained?.run_id,
    });
    expect(after.outcome.path).not.toBe(before.outcome.path);
    expect(await loadOffline('3.17.2', [pathOf(before), pathOf(after)])).toHaveLength(2);
  });

  test('SIGTERM ends it within 5 s with exit code 0', async () => {
    const startedAt = performance.now();
    expect(await sidecar.stop()).toBe(0);
    expect(performance.now() - startedAt).toBeLessThan(atMost(5_000));
  });
});

function pathOf({ outcome }: Reply): string {
  return outcome.path ?? `no path: ${outcome.warning?.message}`;
}
