import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { inject } from 'vitest';
import { z } from 'zod';
import { MLFLOW_VERSIONS, RegisteredSchema } from '../support/real-mlflow.ts';

declare module 'vitest' {
  interface ProvidedContext {
    readonly mlflowFile: string;
  }
}

const StartedSchema = z.object({
  servers: z.array(
    z.object({
      version: z.enum(MLFLOW_VERSIONS),
      url: z.string(),
      /** The leader of its process group. */
      pid: z.number(),
      registered: z.array(RegisteredSchema).readonly(),
    }),
  ),
  /** Of those that did not start. */
  errors: z.array(z.string()),
});
export type Started = z.infer<typeof StartedSchema>;

/** More than a start (120 s) and a training (120 s) may take. */
const LIMIT_MS = 250_000;
const LOOK_MS = 100;

async function started(): Promise<Started> {
  const file = inject('mlflowFile');
  const end = performance.now() + LIMIT_MS;
  while (performance.now() < end) {
    const text = await readFile(file, 'utf8').catch(() => null);
    if (text !== null) return StartedSchema.parse(JSON.parse(text));
    await delay(LOOK_MS);
  }
  throw new Error(`global-setup.ts started no MLflow within ${LIMIT_MS} ms.`);
}

const { servers: all, errors } = await started();
if (errors.length > 0) throw new Error(errors.join('\n'));

/** One MLflow server of each version, with the models of global-setup.ts. */
export const servers = all;
