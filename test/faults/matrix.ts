import pLimit from 'p-limit';
import { ScriptedMlflow } from '../support/scripted-mlflow.ts';
import { type RunningSidecar, startSidecar } from '../support/sidecar.ts';
import { modelFiles, reload } from './harness.ts';

/** Two cores: what is measured comes after all processes have started. */
const starting = pLimit(2);

export interface Stage {
  readonly upstream: ScriptedMlflow;
  readonly sidecar: RunningSidecar;
}

/** A sidecar that has loaded `warm` v1, with files `warm-1`, from an upstream of its own that is well so far. */
export function prepare(env: Readonly<Record<string, string>> = {}): Promise<Stage> {
  return starting(async () => {
    const upstream = await ScriptedMlflow.start();
    populate(upstream);
    // Here every call is to make all of its tries; when a server is left alone is told by a suite of its own.
    const sidecar = await startSidecar({ ...upstream.env, SIDECAR_BREAKER_FAILURES: '1000', ...env });
    await reload(sidecar.url, 'models:/warm/Production');
    return { upstream, sidecar };
  });
}

export async function dismantle(stage: Stage): Promise<void> {
  await Promise.all([stage.upstream.close(), stage.sidecar.stop()]);
}

/** With `warm`, which is loaded before the trouble, and two that are not. */
export function populate(upstream: ScriptedMlflow): void {
  for (const name of ['warm', 'cold', 'frost'])
    upstream.addVersion({ name, stage: 'Production', files: modelFiles(`${name}-1`) });
}
