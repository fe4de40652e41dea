import { expect, onTestFinished } from 'vitest';
import { z } from 'zod';
import { type Fault, ScriptedMlflow } from '../support/scripted-mlflow.ts';
import { type RunningSidecar, startSidecar } from '../support/sidecar.ts';
import { modelFiles, reload } from './harness.ts';

export const WARM = 'models:/warm/Production';
export const DOWN: Fault = { kind: 'status', status: 503, body: 'down for maintenance' };

const Status = z.object({
  breaker: z.string(),
  breakers: z.array(
    z.object({
      name: z.string(),
      state: z.string(),
      failures: z.number(),
      retry_in_s: z.number().nullable(),
      last_failure: z.string().nullable(),
    }),
  ),
  mlflow: z.object({ health: z.object({ ok: z.boolean(), error: z.string().nullable() }).nullable() }),
});

export interface Stage {
  readonly upstream: ScriptedMlflow;
  readonly sidecar: RunningSidecar;
  readonly url: string;
}

/** As many as open a breaker. */
const SPARES = 5;

/** Each of them is cached in a stage, so that a call for it waits for no outage to end. */
export const SPARE_MODELS: readonly string[] = Array.from(
  { length: SPARES },
  (_, n) => `models:/spare-${n}/Production`,
);

/** A sidecar that has loaded `warm` v1 and the spare models, over an upstream that is well so far. */
export async function stageOf(
  env: Readonly<Record<string, string>> = {},
  atEnd: (end: () => Promise<void>) => void = onTestFinished,
): Promise<Stage> {
  const upstream = await ScriptedMlflow.start();
  atEnd(() => upstream.close());
  upstream.addVersion({ name: 'warm', stage: 'Production', files: modelFiles('warm-1') });
  for (let n = 0; n < SPARES; n++)
    upstream.addVersion({ name: `spare-${n}`, stage: 'Production', files: { MLmodel: `spare: ${n}\n` } });
  const sidecar = await startSidecar({ ...upstream.env, SIDECAR_LOG_LEVEL: 'info', ...env });
  atEnd(async () => void (await sidecar.stop()));
  await Promise.all(SPARE_MODELS.map(uri => reload(sidecar.url, uri)));
  expect((await reload(sidecar.url, WARM)).outcome).toMatchObject({ status: 'loaded', breaker: 'closed' });
  return { upstream, sidecar, url: sidecar.url };
}

export async function statusOf(url: string) {
  return Status.parse(await (await fetch(`${url}/v1/status`)).json());
}
