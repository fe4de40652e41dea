import { setTimeout as delay } from 'node:timers/promises';
import pLimit from 'p-limit';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { OutcomeSchema } from '../../src/domain/outcome.ts';
import { DOWN, stageOf, WARM } from './breaker-stage.ts';
import { modelFiles, reload, wrongFiles } from './harness.ts';

const List = z.object({ models: z.array(OutcomeSchema) });

/** Reloads a hundred models that nobody has, in one call. */
async function reloadHundred(url: string, from: number) {
  const model_uris = Array.from({ length: 100 }, (_, n) => `models:/storm-${from + n}/Production`);
  const response = await fetch(`${url}/v1/reload`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model_uris, deadline_s: 5 }),
  });
  return List.parse(await response.json()).models;
}

/** At once: most of it is waiting, and none of its limits is narrow. */
describe.concurrent('a breaker, with time', () => {
  test('an artifact server is found to be back by its trial', async ({ onTestFinished: atEnd }) => {
    const { upstream, url } = await stageOf(
      { SIDECAR_BREAKER_FAILURES: '1', SIDECAR_BREAKER_RESET_S: '3' },
      atEnd,
    );
    upstream.addVersion({ name: 'warm', stage: 'Production', files: modelFiles('warm-2') });
    await upstream.setFault('file', { kind: 'reset' });
    const before = upstream.counts('route').get('file') ?? 0;
    // Three files, whose first tries fail together.
    expect((await reload(url, WARM, { deadline_s: 20 })).outcome).toMatchObject({
      status: 'stale',
      breaker: 'open',
    });
    expect((upstream.counts('route').get('file') ?? 0) - before).toBeLessThanOrEqual(3);
    await upstream.clearFaults();
    await delay(3_100);
    const { outcome } = await reload(url, WARM, { deadline_s: 10 });
    expect(outcome).toMatchObject({ status: 'loaded', version: '2', breaker: 'closed' });
    expect(await wrongFiles(outcome.path, modelFiles('warm-2'))).toEqual([]);
  });

  test('a storm of 1,000 models at once on a registry that answers 503: 1.2 requests a model at most', async ({
    onTestFinished: atEnd,
  }) => {
    const { upstream, url } = await stageOf({}, atEnd);
    await upstream.setFault('registry', DOWN);
    const before = upstream.requests.length;
    const lists = await Promise.all(Array.from({ length: 10 }, (_, n) => reloadHundred(url, n * 100)));
    const outcomes = lists.flat();
    const seen = upstream.requests.length - before;
    console.log(`1,000 models at once: ${seen} requests to MLflow`);
    expect(seen).toBeLessThanOrEqual(1_200);
    expect(Math.max(...outcomes.map(({ attempts }) => attempts))).toBeLessThanOrEqual(3);
    expect(outcomes.map(({ status }) => status)).toEqual(Array.from({ length: 1_000 }, () => 'failed'));
    // All of them wait for it to come back; as many as are in flight at once were on their way when it opened.
    expect(new Set(outcomes.map(({ warning }) => warning?.code))).toEqual(new Set(['deadline_exceeded']));
    expect(outcomes.filter(({ attempts }) => attempts === 0).length).toBeGreaterThan(900);
  });

  test('a storm of 1,000 callers of one model on a registry that answers 503: a handful of requests', async ({
    onTestFinished: atEnd,
  }) => {
    const { upstream, url } = await stageOf({}, atEnd);
    await upstream.setFault('registry', DOWN);
    const before = upstream.requests.length;
    const limit = pLimit(100);
    const outcomes = await Promise.all(
      Array.from({ length: 1_000 }, () =>
        limit(async () => (await reload(url, 'models:/storm/Production', { deadline_s: 0.5 })).outcome),
      ),
    );
    const seen = upstream.requests.length - before;
    console.log(`1,000 callers of one model: ${seen} requests to MLflow`);
    // Tries that failed, and the health beside the first of them and each 5 s.
    expect(seen).toBeLessThanOrEqual(12);
    expect(Math.max(...outcomes.map(({ attempts }) => attempts))).toBeLessThanOrEqual(3);
  });
});
