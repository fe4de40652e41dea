import { setTimeout as delay } from 'node:timers/promises';
import pLimit, { type LimitFunction } from 'p-limit';
import { z } from 'zod';
import { ERROR_CODES } from '../../src/domain/errors.ts';
import { IS_STRICT } from '../support/limits.ts';
import type { Certificates } from '../support/scripted/certificates.ts';
import type { RouteClass } from '../support/scripted-mlflow.ts';
import { modelFiles, post, type Reloaded, reload, wrongFiles } from './harness.ts';
import { type Holdings, holdingsOf, leaksOf, runsOver } from './matrix-leaks.ts';
import { meetsOneCall, raise, type Stand, speaksTls } from './matrix-stand.ts';
import { type Cell, isOutage, ROUTE_CLASSES, squaresOf } from './matrix-table.ts';

/** Here the first trouble of `npm test` is met: with it, a disk that hangs is met by the registry. */
const TURN = 2;

/** Where MLflow names no version. All of these leave a busy machine time for a first answer, and none for all tries, which take 4 s or more. */
export const REFRESH_WAIT_S = IS_STRICT ? 0.5 : 3;
export const DEFAULT_REFRESH_WAIT_S = 2;
/** Of the next call, which is not to wait at all. */
const NEXT_REFRESH_WAIT_S = 20;
/** Where it names a newer one, which is waited for beyond this, until the deadline. */
const NAMING_WAIT_S = IS_STRICT ? 1 : 2.5;
export const WARM_DEADLINE_S = IS_STRICT ? 1.5 : 3;
export const COLD_DEADLINE_S = IS_STRICT ? 1 : 3;
/** Longer than all but the endless take. */
export const LAST_DEADLINE_S = 45;
const ENDLESS_DEADLINE_S = 150;

/** After the last run's end nothing may be left. */
const SETTLE_MS = 1_000;
/** How often what is left is looked at again. */
const LOOKS = IS_STRICT ? 3 : 40;
/** So long a connection is kept that was well, and only where a handshake would be saved. */
const KEPT_ALIVE_MS = 4_000;

/** Waits for the end of what takes minutes, too. */
export const IS_LONG = process.env['CHAOS'] === 'long';

const LastProblem = z.looseObject({
  code: z.enum(ERROR_CODES),
  detail: z.string(),
  path: z.null(),
  refreshing: z.boolean(),
  attempts: z.number(),
});

/** What a call with `on_failure: fail` was told in the end. */
interface Last extends z.infer<typeof LastProblem> {
  readonly http: number;
  readonly ms: number;
}

/** What one cell's sidecar answered, and what it had left. */
export interface Measured {
  readonly cell: Cell;
  /** Of a model that was loaded before: two calls, one after the other. */
  readonly warm: Reloaded;
  readonly warmAgain: Reloaded;
  /** Files of the version that the calls above gave which were not as they should be. */
  readonly warmWrong: readonly string[];
  /** Of a model that was never loaded, with a deadline before its fetch has failed for good. */
  readonly cold: Reloaded;
  /**
   * Of another such model, with a deadline after that; null where it ends only when the trouble does, or never came. A trouble that
   * meets one call may be over before its deadline.
   */
  readonly last: Last | 'loaded' | null;
  /** The trouble is with a name that was found for the listing, and that is not looked up for the files again. */
  readonly isRemembered: boolean;
  /** What was open 1 s after the last run's end that was not before. */
  readonly leaks: Holdings;
  /** What was wrong with the models once the trouble was over. */
  readonly unrecovered: readonly string[];
}

/** Two cores: what is measured comes after all processes of a class have started, and few at a time where 50 ms are enough. */
const starting = pLimit(2);
const AT_ONCE: Readonly<Record<RouteClass, LimitFunction>> = {
  registry: pLimit(IS_STRICT ? 5 : 10),
  listing: pLimit(IS_STRICT ? 8 : 10),
  file: pLimit(IS_STRICT ? 8 : 10),
};

export const SQUARES: Readonly<Record<RouteClass, readonly Cell[]>> = {
  registry: squaresOf('registry', TURN),
  listing: squaresOf('listing', TURN),
  file: squaresOf('file', TURN),
};

export async function measureAll(certificates: Certificates): Promise<readonly Measured[]> {
  return await Promise.all(await beginAll(certificates));
}

/**
 * One class after the other, the registry with the narrowest limits before anything ends. What waits for its end leaves
 * the processor to the next class.
 */
async function beginAll(certificates: Certificates): Promise<readonly Promise<Measured>[]> {
  const ends: Promise<Measured>[] = [];
  for (const routeClass of ROUTE_CLASSES) {
    const raised = await Promise.all(
      SQUARES[routeClass].map(cell =>
        starting(async () => ({ cell, stand: await raise(cell, certificates) })),
      ),
    );
    const begun = await Promise.all(
      raised.map(({ cell, stand }) => AT_ONCE[routeClass](() => meet(cell, stand))),
    );
    for (const met of begun) {
      const end = finish(met);
      // All of them are waited for above.
      end.catch(() => undefined);
      ends.push(end);
    }
  }
  return ends;
}

type Met = Omit<Measured, 'last' | 'leaks' | 'unrecovered'> & {
  readonly stand: Stand;
  readonly before: Holdings;
};

async function meet(cell: Cell, stand: Stand): Promise<Met> {
  const { upstream, sidecar } = stand;
  const before = await holdingsOf(sidecar, stand.probeFile);
  if (cell.routeClass !== 'registry')
    upstream.addVersion({ name: 'warm', stage: 'Production', files: modelFiles('warm-2') });
  await stand.strike();
  const warm = await reload(sidecar.url, 'models:/warm/Production', warmFields(cell, REFRESH_WAIT_S));
  const again = warmFields(cell, NEXT_REFRESH_WAIT_S);
  const warmAgain = await reload(sidecar.url, 'models:/warm/Production', again);
  await stand.strike();
  const cold = await reload(sidecar.url, 'models:/cold/Production', { deadline_s: COLD_DEADLINE_S });
  const warmWrong = await wrongFiles(warm.outcome.path, modelFiles(`warm-${warm.outcome.version}`));
  const isRemembered =
    cell.evil.kind === 'dns' &&
    cell.routeClass === 'file' &&
    [warm, warmAgain, cold].some(({ outcome }) => ['loaded', 'unchanged'].includes(outcome.status));
  return { cell, stand, before, warm, warmAgain, warmWrong, isRemembered, cold };
}

function warmFields(
  { routeClass, isByDefault }: Cell,
  refreshWaitS: number,
): Readonly<Record<string, number>> {
  if (routeClass !== 'registry') return { deadline_s: WARM_DEADLINE_S, refresh_wait_s: NAMING_WAIT_S };
  return isByDefault ? {} : { refresh_wait_s: refreshWaitS };
}

async function finish({ stand, before, ...met }: Met): Promise<Measured> {
  try {
    const last = met.isRemembered ? null : await lastOf(met.cell, stand);
    // Runs wait for as long as an outage lasts.
    if (last === null || isOutage(met.cell)) {
      await stand.calm();
      stand.upstream.hangUp();
    }
    await runsOver(stand.sidecar, 60_000);
    // Runs that were waited for have connections that are kept.
    if (isOutage(met.cell)) stand.upstream.hangUp();
    await delay(speaksTls(met.cell) ? SETTLE_MS + KEPT_ALIVE_MS : SETTLE_MS);
    const leaks = await lasting(() => holdingsOf(stand.sidecar, stand.probeFile), before);
    await stand.calm();
    return { ...met, last, leaks, unrecovered: await unrecovered(met.cell, stand) };
  } finally {
    await stand.close();
  }
}

/** What is left each time: the looks that a process takes once a second at its disk are under way at one of them, but leave nothing. */
async function lasting(look: () => Promise<Holdings>, before: Holdings): Promise<Holdings> {
  let leaks = leaksOf(before, await look());
  for (let n = 0; n < LOOKS && leaks.length > 0; n++) {
    await delay(130);
    const now = leaksOf(before, await look());
    leaks = leaks.filter(held => now.includes(held));
  }
  return leaks;
}

async function lastOf(cell: Cell, stand: Stand): Promise<Measured['last']> {
  const { evil, end } = cell;
  if (end.endless && (evil.kind === 'disk' || !IS_LONG)) return null;
  await stand.strike();
  const deadlineS = end.endless ? ENDLESS_DEADLINE_S : LAST_DEADLINE_S;
  const body = { model_uri: 'models:/frost/Production', on_failure: 'fail', deadline_s: deadlineS };
  const { http, ms, text } = await post(stand.sidecar.url, { body });
  if (http === 200 && isOutage(cell) && meetsOneCall(cell)) return 'loaded';
  return { ...LastProblem.parse(JSON.parse(text)), http, ms };
}

/** Both models are loaded whole now, anew. */
async function unrecovered({ routeClass }: Cell, { sidecar }: Stand): Promise<readonly string[]> {
  const found: string[] = [];
  for (const [name, label] of [
    ['warm', routeClass === 'registry' ? 'warm-1' : 'warm-2'],
    ['cold', 'cold-1'],
  ] as const) {
    const uri = `models:/${name}/Production`;
    const { outcome } = await reload(sidecar.url, uri, { force: true, deadline_s: 30 });
    if (outcome.status !== 'loaded') found.push(`${name} is ${outcome.status}`);
    found.push(...(await wrongFiles(outcome.path, modelFiles(label))));
  }
  return found;
}
