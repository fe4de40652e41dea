import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { z } from 'zod';
import { SIZES } from '../crash/sizes.ts';
import { longestStallMs } from '../support/event-loop.ts';
import { writeModels } from '../support/many-models.ts';
import { type RunningSidecar, startSidecar } from '../support/sidecar.ts';

const MODELS = 10_000;
const AT_ONCE = 10;
const NOBODY = 'http://127.0.0.1:9';
const Listed = z.object({
  models: z.array(z.object({ name: z.string(), refs: z.array(z.looseObject({})) })),
});

function namesIn(text: string): readonly string[] {
  return Listed.parse(JSON.parse(text)).models.map(({ name }) => name);
}

async function sidecarOfMany(): Promise<RunningSidecar> {
  const cacheDir = await mkdtemp(join(tmpdir(), 'sidecar-many-'));
  onTestFinished(() => rm(cacheDir, { recursive: true, force: true }));
  await writeModels(cacheDir, NOBODY, MODELS);
  const env = { SIDECAR_CACHE_DIR: cacheDir, MLFLOW_TRACKING_URI: NOBODY };
  const sidecar = await startSidecar(env, { probe: '/readyz' });
  onTestFinished(async () => void (await sidecar.stop()));
  return sidecar;
}

test('10 lists of 10,000 models at once, and whatever else tells of them, hold nobody up', async () => {
  const { url } = await sidecarOfMany();
  const texts = (path: string) =>
    Promise.all(Array.from({ length: AT_ONCE }, async () => (await fetch(url + path)).text()));
  const stalls: Record<string, number> = {};
  await longestStallMs(url);
  const lists = await texts('/v1/models');
  stalls['lists'] = await longestStallMs(url);
  const [names = [], ...others] = lists.map(namesIn);
  expect(names).toHaveLength(MODELS);
  expect(names).toEqual(names.toSorted());
  for (const other of others) expect(other).toEqual(names);
  for (const path of [`/v1/models/${names[5_000]}`, '/v1/status', '/metrics']) {
    await texts(path);
    stalls[path.replace(/model-.*/, '{name}')] = await longestStallMs(url);
  }
  console.table([stalls]);
  expect(Math.max(...Object.values(stalls))).toBeLessThan(SIZES.stallMs);
}, 60_000);
