import { expect, onTestFinished, test } from 'vitest';
import { EventBus } from '../../src/domain/events.ts';
import type { ModelSummary } from '../../src/reload/api.ts';
import { createMetrics } from '../../src/telemetry/metrics.ts';
import { parseExposition } from '../support/exposition.ts';
import { processorMs } from '../support/limits.ts';
import { outcome } from '../support/outcome.ts';
import { IDLE } from '../telemetry/support.ts';

const CALLER = { requestId: 'r', airflow: {}, authorization: null };
const STATUSES = ['failed', 'missing', 'stale', 'loaded', 'unchanged'] as const;

function cached(count: number): readonly ModelSummary[] {
  return Array.from({ length: count }, (_, i) => {
    const name = `team-${i % 7}-model-with-quite-a-name-${i}`;
    const ref = {
      ref: 'Production',
      model_uri: `models:/${name}/Production`,
      ref_path: null,
      resolved_version: '2',
      last_outcome: null,
    };
    const published = {
      version: '2',
      path: '/p',
      digest: 'sha256:00',
      files: 7,
      bytes: 9,
      confirmed_at: 1,
      age_s: i,
    };
    return { name, refs: [{ ...ref, ...published }] };
  });
}

test('a scrape of 1,000 URIs and of every name that is counted takes less than 50 ms', async () => {
  const events = new EventBus();
  const models = cached(1_000);
  const metrics = createMetrics(events, {
    ...IDLE,
    models: () => models,
    cache: () => ({ usable: true, models: 1_000, bytes: 9_000, used_bytes: null, free_bytes: null }),
  });
  onTestFinished(metrics.close);
  for (const { name } of models)
    for (const status of STATUSES)
      events.emit({
        type: 'reload_finished',
        caller: CALLER,
        runId: null,
        phases: {},
        outcome: outcome({ name, status }),
      });
  const times: number[] = [];
  let text = '';
  for (let i = 0; i < 21; i++) {
    times.push(
      await processorMs(async () => {
        ({ text } = await metrics.scrape());
      }),
    );
  }
  const families = parseExposition(text);
  expect(families.get('mlflow_sidecar_model_age_seconds')?.series).toHaveLength(1_000);
  expect(families.get('mlflow_sidecar_reloads_total')?.series.length).toBeGreaterThan(2_500);
  // The best one: what else this process does only adds.
  const best = Math.min(...times);
  console.log(`scrape of ${text.length} bytes: ${best.toFixed(1)} ms of the processor`);
  expect(best).toBeLessThan(50);
});
