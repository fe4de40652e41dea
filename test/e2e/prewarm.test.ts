import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, onTestFinished, test, vi } from 'vitest';
import { startCountingRelay } from '../support/counting-relay.ts';
import { mlflowRest } from '../support/mlflow-rest.ts';
import { startSidecar } from '../support/sidecar.ts';
import { servers } from './servers.ts';

test.each(servers)(
  'what is promoted on a real MLflow $version is published by the schedule alone, and fetched once',
  async ({ url, registered }) => {
    const rest = mlflowRest(url);
    const name = 'promoted-by-night';
    for (const one of registered.slice(0, 2)) await rest.createVersion(name, one);
    await rest.setAlias(name, 'champion', '1');
    const relay = await startCountingRelay(url);
    onTestFinished(() => relay.close());
    const uri = `models:/${name}@champion`;
    const sidecar = await startSidecar({
      MLFLOW_TRACKING_URI: relay.url,
      SIDECAR_MODELS: uri,
      SIDECAR_PREWARM: '* * * * * *',
    });
    onTestFinished(async () => void (await sidecar.stop()));
    const published = async () => {
      const record = join(sidecar.cacheDir, 'v1', 'refs', name, '@champion.json');
      return JSON.parse(await readFile(record, 'utf8')).published.version.version;
    };
    const soon = { timeout: 15_000, interval: 100 };
    await vi.waitFor(async () => expect(await published()).toBe('1'), soon);
    relay.taken();
    await rest.setAlias(name, 'champion', '2');
    await vi.waitFor(async () => expect(await published()).toBe('2'), soon);
    const files = relay.taken().filter(request => request.includes('/mlflow-artifacts/artifacts/'));
    expect(files.length).toBeGreaterThan(0);
    expect(new Set(files).size).toBe(files.length);
    await delay(3_500);
    const quiet = relay.taken().filter(request => !request.endsWith('/health'));
    expect(quiet.length).toBeGreaterThanOrEqual(2);
    expect(new Set(quiet).size).toBe(1);
    expect(quiet[0]).toContain('/registered-models/alias?');
  },
);
