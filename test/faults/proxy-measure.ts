import { setTimeout as delay } from 'node:timers/promises';
import pLimit, { type LimitFunction } from 'p-limit';
import { IS_STRICT } from '../support/limits.ts';
import type { Certificates } from '../support/scripted/certificates.ts';
import type { Files } from '../support/scripted-mlflow.ts';
import { modelFiles } from './harness.ts';
import { type Holdings, holdingsOf, leaksOf } from './matrix-leaks.ts';
import { IS_LONG } from './matrix-measure.ts';
import { raise, type Stand, speaksTls } from './matrix-stand.ts';
import type { Cell } from './matrix-table.ts';
import { type Client, codeIn, digestsOf, type Load } from './proxy-clients.ts';
import { CLASSES, type ClientName, cellsFor } from './proxy-table.ts';

const WARM = 'models:/warm/Production';
const COLD = 'models:/many/Production';
/** More files than a client asks for at a time. */
const MANY: Files = {
  ...modelFiles('many-1'),
  ...Object.fromEntries(Array.from({ length: 12 }, (_, at) => [`data/part-${at}`, `part ${at}`.repeat(100)])),
};
/** Instead of the 60 s that nothing of a download may come, which the long form waits for. */
export const SHORT_DEADLINE_S = IS_STRICT ? 3 : 6;
export const DEADLINE_S = 60;
const ENV: Readonly<Record<string, string>> = IS_LONG
  ? {}
  : { SIDECAR_RELOAD_DEADLINE_S: String(SHORT_DEADLINE_S) };

/** All tries of a question that nobody waits for any more take up to 30 s. */
const SETTLE_MS = 45_000;
const LOOK_AGAIN_MS = 500;
/** What only waits need not begin at the same moment. */
const APART_MS = IS_STRICT ? 120 : 300;
/** Then whatever a deadline ends is over. */
const BURST_MS = SHORT_DEADLINE_S * 1_000 + 1_000;

/** Two cores: few measure at a time, and fewer still with a process for each load. */
const AT_ONCE: Readonly<Record<ClientName, LimitFunction>> = { TypeScript: pLimit(6), Python: pLimit(2) };
const starting = pLimit(2);

/** What one cell's client got. */
export interface ProxyMeasured {
  readonly cell: Cell;
  readonly client: ClientName;
  /** A load without the fault: the quickest of three, in milliseconds. */
  readonly baseMs: number;
  /** Of a model that was loaded before: the first load of the fault's. */
  readonly warm: Load;
  /** The quickest of the next three. */
  readonly warmAgain: Load;
  /** What of MLflow's artifacts they asked for. */
  readonly warmAsked: number;
  /** Of a model that was never loaded. */
  readonly cold: Load;
  /** What was open after the end of everything that was not before. */
  readonly leaks: Holdings;
  /** What the loads of both models came to once the trouble was over. */
  readonly recovered: readonly Load[];
}

export async function measureAll(
  clients: Readonly<Record<ClientName, Client>>,
  certificates: Certificates,
): Promise<readonly ProxyMeasured[]> {
  return await Promise.all(await beginAll(clients, certificates));
}

/** One class after the other; while its loads wait for their end the next may start its processes, but not measure. */
async function beginAll(
  clients: Readonly<Record<ClientName, Client>>,
  certificates: Certificates,
): Promise<readonly Promise<ProxyMeasured>[]> {
  const ends: Promise<ProxyMeasured>[] = [];
  let burst = Promise.resolve();
  for (const routeClass of CLASSES) {
    const raised = await Promise.all(
      cellsFor(routeClass).map(one =>
        starting(async () => ({ ...one, stand: await standFor(one.cell, certificates) })),
      ),
    );
    await burst;
    const begun = await Promise.all(
      raised.map(one => AT_ONCE[one.client](() => meet({ ...one, load: clients[one.client] }))),
    );
    for (const met of begun) {
      const end = finish(met);
      // All of them are waited for above.
      end.catch(() => undefined);
      ends.push(end);
      await delay(APART_MS);
    }
    burst = delay(BURST_MS);
  }
  await burst;
  return ends;
}

async function standFor(cell: Cell, certificates: Certificates): Promise<Stand> {
  const raised = await raise(cell, certificates, ENV);
  raised.upstream.addVersion({ name: 'many', stage: 'Production', files: MANY });
  return raised;
}

interface Square {
  readonly cell: Cell;
  readonly client: ClientName;
  readonly stand: Stand;
  readonly load: Client;
}

type Met = Omit<ProxyMeasured, 'baseMs' | 'cold' | 'leaks' | 'recovered'> &
  Square & {
    readonly before: Holdings;
    /** None where they would have the sidecar remember what is to be lost. */
    readonly base: readonly Load[];
  };

/** What only takes the time of this machine. */
async function meet(square: Square): Promise<Met> {
  const { stand, load } = square;
  const { upstream, sidecar } = stand;
  const before = await holdingsOf(sidecar, stand.probeFile);
  const base = isRemembered(square.cell) ? [] : await inTurn(3, () => load(sidecar.url, WARM));
  await stand.strike();
  const from = upstream.requests.length;
  const warm = await load(sidecar.url, WARM);
  const again = await inTurn(3, () => load(sidecar.url, WARM));
  const asked = upstream.requests.slice(from).filter(({ routeClass }) => routeClass !== 'registry');
  return {
    ...square,
    before,
    base,
    warm,
    warmAgain: again.find(({ files }) => files === null) ?? quickest(again),
    warmAsked: asked.length,
  };
}

async function inTurn(times: number, load: () => Promise<Load>): Promise<readonly Load[]> {
  const loads: Load[] = [];
  for (let n = 0; n < times; n++) loads.push(await load());
  return loads;
}

function quickest(loads: readonly Load[]): Load {
  const [first] = loads.toSorted((a, b) => a.ms - b.ms);
  if (first === undefined) throw new Error('none was measured');
  return first;
}

/** What takes MLflow's time, and none of ours. */
async function finish({ stand, load, before, base, ...met }: Met): Promise<ProxyMeasured> {
  const { upstream, sidecar } = stand;
  try {
    await stand.strike();
    const cold = await load(sidecar.url, COLD);
    if (!IS_LONG || isGoingOn(met.cell, cold)) {
      await stand.calm();
      upstream.hangUp();
    }
    const leaks = await lastingLeaks(met.cell, stand, before);
    await stand.calm();
    const recovered = [await load(sidecar.url, WARM), await load(sidecar.url, COLD)];
    const baseMs = quickest(base.length > 0 ? base : await inTurn(3, () => load(sidecar.url, WARM))).ms;
    return { ...met, baseMs, cold, leaks, recovered };
  } finally {
    await stand.close();
  }
}

/** A name that was looked up. */
function isRemembered({ evil, routeClass }: Cell): boolean {
  return evil.kind === 'dns' && routeClass === 'registry';
}

/** Without its client, for as long as the trouble takes. */
function isGoingOn({ evil }: Cell, cold: Load): boolean {
  return evil.kind === 'disk' || codeIn(cold) === 'deadline_exceeded';
}

/** What is left for good. */
async function lastingLeaks(cell: Cell, stand: Stand, before: Holdings): Promise<Holdings> {
  const end = performance.now() + SETTLE_MS;
  for (;;) {
    // Over TLS connections are kept for as long as the server says.
    if (speaksTls(cell)) stand.upstream.hangUp();
    const leaks = leaksOf(before, await holdingsOf(stand.sidecar, stand.probeFile));
    if (leaks.length === 0 || performance.now() > end) return leaks;
    await delay(LOOK_AGAIN_MS);
  }
}

/** Which files of the model a load did not bring as they are. */
export function wrongOf({ files }: Load, model: 'warm' | 'cold'): readonly string[] {
  const wanted = digestsOf(model === 'warm' ? modelFiles('warm-1') : MANY);
  const paths = new Set([...Object.keys(wanted), ...Object.keys(files ?? {})]);
  return [...paths].filter(path => files?.[path] !== wanted[path]);
}
