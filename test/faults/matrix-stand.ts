import { execFile } from 'node:child_process';
import { mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { Certificates } from '../support/scripted/certificates.ts';
import { isOfPort } from '../support/scripted/listener.ts';
import { type RecordedRequest, ScriptedMlflow } from '../support/scripted-mlflow.ts';
import { type RunningSidecar, startSidecar } from '../support/sidecar.ts';
import { reload } from './harness.ts';
import { populate } from './matrix.ts';
import { type Cell, TRY_S } from './matrix-table.ts';

const RESOURCES = new URL('../support/preload/resources.mjs', import.meta.url);
const NAMES = new URL('../support/preload/dns.mjs', import.meta.url);
const HUNG_DISK = new URL('../support/preload/hung-disk.mjs', import.meta.url);
const HOST = 'mlflow.test';
/** Whatever deadline is tried afterwards. */
const WARM_UP_S = 30;
/** Longer than it takes all that hangs to be let go. */
const LET_GO_MS = 300;

/** A sidecar that has loaded `warm` v1, and everything that can be done to it in one cell of the matrix. */
export interface Stand {
  readonly upstream: ScriptedMlflow;
  readonly sidecar: RunningSidecar;
  readonly probeFile: string;
  /** Lets the trouble begin; again where it met only the last call. */
  strike(): Promise<void>;
  /** Ends the trouble. */
  calm(): Promise<void>;
  close(): Promise<void>;
}

/** Where the preloads are told what to do. */
interface Switches {
  readonly dir: string;
  readonly probe: string;
  readonly flag: string;
  readonly fifo: string;
}

/** @param more of the sidecar's environment */
export async function raise(
  cell: Cell,
  certificates: Certificates,
  more: Readonly<Record<string, string>> = {},
): Promise<Stand> {
  const switches = await makeSwitches();
  const upstream = await ScriptedMlflow.start(speaksTls(cell) ? certificates : null);
  populate(upstream);
  const env = { ...environment(cell, upstream, switches, certificates), ...more };
  const sidecar = await warmed(cell, env);
  const close = async () => {
    await Promise.all([upstream.close(), sidecar.stop()]);
    await rm(switches.dir, { recursive: true, force: true });
  };
  return {
    upstream,
    sidecar,
    probeFile: switches.probe,
    ...controls(cell, upstream, switches, certificates),
    close,
  };
}

export function speaksTls({ evil }: Cell): boolean {
  return evil.kind === 'handshake_stall' || evil.kind === 'certificate';
}

async function makeSwitches(): Promise<Switches> {
  const dir = await mkdtemp(join(tmpdir(), 'sidecar-matrix-'));
  const fifo = join(dir, 'fifo');
  await promisify(execFile)('mkfifo', [fifo]);
  return { dir, probe: join(dir, 'probe.json'), flag: join(dir, 'flag'), fifo };
}

function environment(
  { evil, routeClass, end }: Cell,
  upstream: ScriptedMlflow,
  { dir, probe, flag, fifo }: Switches,
  certificates: Certificates,
): Readonly<Record<string, string>> {
  const preloads = [
    RESOURCES,
    ...(evil.kind === 'dns' ? [NAMES] : []),
    ...(evil.kind === 'disk' ? [HUNG_DISK] : []),
  ];
  const named = routeClass === 'registry' ? 'MLFLOW_REGISTRY_URI' : 'MLFLOW_TRACKING_URI';
  const byName =
    evil.kind === 'dns' ? { [named]: upstream.env[named]?.replace('127.0.0.1', HOST) ?? '' } : {};
  return {
    ...upstream.env,
    ...byName,
    ...(end.tryS === TRY_S ? { MLFLOW_HTTP_REQUEST_TIMEOUT: String(TRY_S) } : {}),
    MLFLOW_TRACKING_SERVER_CERT_PATH: certificates.authority,
    // It would answer the later calls of a cell in the place of what is looked at here.
    SIDECAR_BREAKER_FAILURES: '1000',
    SIDECAR_LOG_LEVEL: 'debug',
    SIDECAR_CACHE_DIR: join(dir, 'cache'),
    NODE_OPTIONS: preloads.map(({ href }) => `--import=${href}`).join(' '),
    PROBE_FILE: probe,
    DNS_NAME: HOST,
    DNS_FLAG: flag,
    DISK_FLAG: flag,
    DISK_FIFO: fifo,
  };
}

/** Where names are looked up, started again: what was remembered of a name would hide the trouble with it. */
async function warmed({ evil }: Cell, env: Readonly<Record<string, string>>): Promise<RunningSidecar> {
  const sidecar = await startSidecar(env);
  const { outcome } = await reload(sidecar.url, 'models:/warm/Production', { deadline_s: WARM_UP_S });
  if (outcome.status !== 'loaded') throw new Error(`The warm-up: ${JSON.stringify(outcome)}`);
  if (evil.kind !== 'dns') return sidecar;
  await sidecar.stop();
  return await startSidecar(env);
}

function controls(
  cell: Cell,
  upstream: ScriptedMlflow,
  switches: Switches,
  certificates: Certificates,
): Pick<Stand, 'strike' | 'calm'> {
  const { evil } = cell;
  let isStruck = false;
  const calm = async () => {
    isStruck = false;
    await upstream.clearFaults();
    await rm(switches.flag, { force: true });
    if (evil.kind === 'disk') await letGo(switches.fifo);
  };
  const strike = async () => {
    if (isStruck && !meetsOneCall(cell)) return;
    if (isStruck) await calm();
    isStruck = true;
    await begin(cell, upstream, switches, certificates);
  };
  return { strike, calm };
}

/** What sets in between the listing and the files of one call would meet the next call before its listing. */
export function meetsOneCall({ evil, routeClass }: Cell): boolean {
  return evil.kind === 'disk' || (routeClass === 'file' && (evil.kind === 'dns' || isOfPort(evil)));
}

async function begin(
  { evil, routeClass }: Cell,
  upstream: ScriptedMlflow,
  { flag }: Switches,
  certificates: Certificates,
): Promise<void> {
  if (evil.kind === 'disk') {
    await upstream.setFault(routeClass, { kind: 'after', act: () => writeFile(flag, 'hang') });
  } else if (evil.kind === 'certificate') {
    await upstream.setFault(routeClass, { kind: 'certificate', certificate: certificates[evil.which] });
  } else if (evil.kind !== 'dns') {
    await upstream.setFault(routeClass, evil);
  } else if (routeClass === 'file') {
    const lastListing = ({ path }: RecordedRequest) => path.endsWith('/data');
    const act = () => writeFile(flag, evil.how);
    await upstream.setFault('listing', { kind: 'after', act }, { when: lastListing });
  } else {
    await writeFile(flag, evil.how);
  }
}

/** Whoever hangs at the FIFO goes on as soon as it has a writer. */
async function letGo(fifo: string): Promise<void> {
  const writer = await open(fifo, 'r+');
  await delay(LET_GO_MS);
  await writer.close();
}
