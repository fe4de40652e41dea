import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, expect, onTestFinished, test } from 'vitest';
import { z } from 'zod';
import { ScriptedMlflow } from '../support/scripted-mlflow.ts';
import { startSidecar } from '../support/sidecar.ts';
import { modelFiles, reload, until } from './harness.ts';

const PRELOAD = new URL('../support/preload/set-clock.mjs', import.meta.url).href;
const URI = 'models:/timed/Production';
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const DOWN = { deadline_s: 3, refresh_wait_s: 0.3 };
const Record = z.looseObject({ confirmed_at: z.number() });
const Versions = z.object({ model_versions: z.array(z.object({ version: z.string() })) });

let upstream: ScriptedMlflow;
beforeEach(async () => {
  upstream = await ScriptedMlflow.start();
  addVersion('1');
});
afterEach(() => upstream.close());

function addVersion(version: string): void {
  upstream.addVersion({ name: 'timed', version, stage: 'Production', files: modelFiles(version) });
}

async function stand(more: Readonly<Record<string, string>> = {}) {
  const dir = await mkdtemp(join(tmpdir(), 'sidecar-clock-'));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  const file = join(dir, 'set-by');
  const env = { NODE_OPTIONS: `--import=${PRELOAD}`, CLOCK_SET: file, SIDECAR_CACHE_DIR: join(dir, 'cache') };
  const start = async () => {
    const sidecar = await startSidecar({ ...upstream.env, ...env, ...more });
    onTestFinished(async () => void (await sidecar.stop()));
    return sidecar;
  };
  const record = join(dir, 'cache/v1/refs/timed/Production.json');
  return { start, record, setBy: (ms: number) => writeFile(file, String(ms)) };
}

test('a time of the future on the disk counts as now, is corrected there, and ages from then on', async () => {
  const { start, record } = await stand();
  const before = await start();
  expect((await reload(before.url, URI)).outcome.status).toBe('loaded');
  await before.stop();
  const future = Date.now() / 1_000 + 365 * 86_400;
  const text = await readFile(record, 'utf8');
  await chmod(record, 0o644);
  await writeFile(record, text.replace(/"confirmed_at": [\d.]+/, `"confirmed_at": ${future}`));
  await upstream.setFault('registry', { kind: 'refused' });
  const sidecar = await start();
  const corrected = await until(20_000, async () => {
    const { confirmed_at: at } = Record.parse(JSON.parse(await readFile(record, 'utf8')));
    return at < future - 86_400 ? at : null;
  });
  expect(corrected).toBeLessThanOrEqual(Date.now() / 1_000);
  await delay(1_500);
  const { outcome } = await reload(sidecar.url, URI, DOWN);
  expect(outcome.status).toBe('stale');
  expect(outcome.age_s).toBeGreaterThan(1);
  expect((await reload(sidecar.url, URI, { ...DOWN, max_stale_s: 1 })).outcome.status).toBe('failed');
});

test('a clock that is set forward makes nothing too old', async () => {
  const { start, setBy } = await stand();
  const sidecar = await start();
  expect((await reload(sidecar.url, URI)).outcome.status).toBe('loaded');
  await upstream.setFault('registry', { kind: 'refused' });
  await setBy(30 * DAY_MS);
  const { outcome } = await reload(sidecar.url, URI, DOWN);
  expect(outcome).toMatchObject({ status: 'stale', version: '1' });
  expect(outcome.age_s).toBeLessThan(600);
});

test('a clock that is set back makes no old answer fresh', async () => {
  const { start, setBy } = await stand({ SIDECAR_FRESH_S: '1' });
  const { url } = await start();
  const ask = async () => {
    const query = 'name=timed&stages=Production';
    const response = await fetch(`${url}/api/2.0/mlflow/registered-models/get-latest-versions?${query}`);
    return Versions.parse(await response.json()).model_versions.map(({ version }) => version);
  };
  expect(await ask()).toEqual(['1']);
  await setBy(-HOUR_MS);
  addVersion('2');
  await delay(1_500);
  expect(await ask()).toEqual(['2']);
});
