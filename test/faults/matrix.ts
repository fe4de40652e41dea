import pLimit from 'p-limit';
import { type Fault, type RouteClass, ScriptedMlflow } from '../support/scripted-mlflow.ts';
import { type RunningSidecar, startSidecar } from '../support/sidecar.ts';
import { modelFiles, type Reloaded, reload } from './harness.ts';

/** One kind of trouble with MLflow, and what callers are told. */
export interface Trouble {
  readonly name: string;
  readonly routeClass: RouteClass;
  readonly fault: Fault;
  /** The code once the tries are used up; null where a try lasts longer than this suite waits. */
  readonly code: string | null;
  readonly env?: Readonly<Record<string, string>>;
}

/** What one sidecar answered while the trouble lasted. */
export interface Measured {
  /** Of a model that was loaded before: two calls, one after the other. */
  readonly warm: Reloaded;
  readonly warmAgain: Reloaded;
  /** Of a model that was never loaded, with a deadline before the tries are used up. */
  readonly cold: Reloaded;
  /** Of another such model, with a deadline after them; null where `code` is. */
  readonly coldAtLast: Reloaded | null;
}

export const SHORT_DEADLINE_S = 1;
/** Three tries of 1 s and waits of 4 to 12 s between them, and the start of each. */
export const LONG_DEADLINE_S = 18;

/** Two cores: what is measured comes after all processes have started, and few at a time. */
const starting = pLimit(2);
const warming = pLimit(4);

export interface Stage {
  readonly upstream: ScriptedMlflow;
  readonly sidecar: RunningSidecar;
}

/** A sidecar that has loaded `warm` v1, with files `warm-1`, from an upstream of its own that is well so far. */
export function prepare(env: Readonly<Record<string, string>> = {}): Promise<Stage> {
  return starting(async () => {
    const upstream = await ScriptedMlflow.start();
    upstream.addVersion({ name: 'warm', stage: 'Production', files: modelFiles('warm-1') });
    upstream.addVersion({ name: 'cold', stage: 'Production', files: modelFiles('cold-1') });
    upstream.addVersion({ name: 'frost', stage: 'Production', files: modelFiles('frost-1') });
    // Here every call is to make all of its tries; when a server is left alone is told by a suite of its own.
    const sidecar = await startSidecar({ ...upstream.env, SIDECAR_BREAKER_FAILURES: '1000', ...env });
    await reload(sidecar.url, 'models:/warm/Production');
    return { upstream, sidecar };
  });
}

export async function dismantle(stage: Stage): Promise<void> {
  await Promise.all([stage.upstream.close(), stage.sidecar.stop()]);
}

/**
 * Lets the trouble of every stage begin, and asks: first for what is cached, few sidecars at a time, then for what is
 * not, all at once, since that is mostly waiting. Artifacts are in trouble for a newer version, which is made first.
 */
export async function measure(
  stages: ReadonlyMap<Trouble, Stage>,
  warmFields: (trouble: Trouble) => object,
): Promise<ReadonlyMap<string, Measured>> {
  const warmed = await Promise.all(
    [...stages].map(([trouble, stage]) =>
      warming(async () => ({ trouble, stage, ...(await askWarm(trouble, stage, warmFields(trouble))) })),
    ),
  );
  const measured = warmed.map(async ({ trouble, stage, ...warm }) => {
    const cold = await askCold(trouble, stage);
    return [trouble.name, { ...warm, ...cold }] as const;
  });
  return new Map(await Promise.all(measured));
}

async function askWarm(trouble: Trouble, { upstream, sidecar }: Stage, fields: object) {
  if (trouble.routeClass !== 'registry')
    upstream.addVersion({ name: 'warm', stage: 'Production', files: modelFiles('warm-2') });
  await upstream.setFault(trouble.routeClass, trouble.fault);
  const warm = await reload(sidecar.url, 'models:/warm/Production', { ...fields });
  const warmAgain = await reload(sidecar.url, 'models:/warm/Production', { ...fields });
  return { warm, warmAgain };
}

async function askCold(trouble: Trouble, { sidecar }: Stage) {
  const [cold, coldAtLast] = await Promise.all([
    reload(sidecar.url, 'models:/cold/Production', { deadline_s: SHORT_DEADLINE_S }),
    trouble.code === null
      ? null
      : reload(sidecar.url, 'models:/frost/Production', { deadline_s: LONG_DEADLINE_S }),
  ]);
  return { cold, coldAtLast };
}

export function printTimes(title: string, measured: ReadonlyMap<string, Measured>): void {
  const shown = ({ ms, outcome }: Reloaded) =>
    `${outcome.status} ${outcome.warning?.code ?? ''} ${(ms / 1_000).toFixed(3)} s`;
  const rows = [...measured].map(([name, { warm, warmAgain, cold, coldAtLast }]) => [
    name,
    {
      warm: shown(warm),
      'warm again': shown(warmAgain),
      [`cold, ${SHORT_DEADLINE_S} s`]: shown(cold),
      [`cold, ${LONG_DEADLINE_S} s`]: coldAtLast === null ? '' : shown(coldAtLast),
    },
  ]);
  console.log(title);
  console.table(Object.fromEntries(rows));
}
