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

/** A sidecar that has loaded `warm` v1, over an upstream that is well so far. */
export async function stageOf(
  env: Readonly<Record<string, string>> = {},
  atEnd: (end: () => Promise<void>) => void = onTestFinished,
): Promise<Stage> {
  const upstream = await ScriptedMlflow.start();
  atEnd(() => upstream.close());
  upstream.addVersion({ name: 'warm', stage: 'Production', files: modelFiles('warm-1') });
  const sidecar = await startSidecar({ ...upstream.env, SIDECAR_LOG_LEVEL: 'info', ...env });
  atEnd(async () => void (await sidecar.stop()));
  expect((await reload(sidecar.url, WARM)).outcome).toMatchObject({ status: 'loaded', breaker: 'closed' });
  return { upstream, sidecar, url: sidecar.url };
}

export async function statusOf(url: string) {
  return Status.parse(await (await fetch(`${url}/v1/status`)).json());
}
