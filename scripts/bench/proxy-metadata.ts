import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { atExit } from '../../test/support/at-exit.ts';
import { mlflowRest } from '../../test/support/mlflow-rest.ts';
import { modelOf } from './models.ts';
import { pairs } from './pairs.ts';
import { atLeast, median, type Verdict } from './report.ts';
import { requests } from './requests.ts';
import { withSidecar } from './sidecar.ts';
import type { Bench } from './upstream.ts';
import { fresh } from './work.ts';

const BARE_ROUTE = fileURLToPath(new URL('./bare-route.ts', import.meta.url));
const PATH = '/api/2.0/mlflow/registered-models/alias';
const PAIRS = 9;
const IN_FLIGHT = 10;
/** About half a second's. */
const REQUESTS = 10_000;

/** What is left of express's requests a second with the sidecar around them. */
export async function proxyMetadata({ upstream, dir }: Bench): Promise<readonly Verdict[]> {
  const name = 'proxy-metadata';
  await upstream.register(name, modelOf(name));
  await mlflowRest(upstream.url).setAlias(name, 'champion', '1');
  const path = `${PATH}?name=${name}&alias=champion`;
  const compare = async (sidecar: string) => {
    const answer = await fetch(`${sidecar}${path}`);
    const body = await answer.text();
    if (answer.status !== 200) throw new Error(`${path} answered ${answer.status}: ${body}`);
    const bare = await startBareRoute(answer.headers.get('content-type') ?? '', body);
    const bodyBytes = Buffer.byteLength(body);
    const ask = async (port: number) => await requests({ port, path, bodyBytes }, REQUESTS, IN_FLIGHT);
    const theirs = async () => await ask(bare.port);
    const ours = async () => await ask(Number(new URL(sidecar).port));
    // Until the compiler has done its work.
    for (const warmUp of [theirs, ours, theirs, ours]) await warmUp();
    const ratios = await pairs(theirs, ours, PAIRS);
    bare.stop();
    return [atLeast(name, 'requests a second ÷ those of bare express', median(ratios), 0.6, '×')];
  };
  const cacheDir = await fresh(dir, 'cache');
  return await withSidecar(upstream.url, cacheDir, ({ url }) => compare(url), { SIDECAR_FRESH_S: '3600' });
}

/** In a process of its own, started as the sidecar is. */
async function startBareRoute(type: string, body: string) {
  const args = [BARE_ROUTE, PATH, type, body];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const stop = atExit(() => void child.kill('SIGKILL'));
  const [port]: unknown[] = await once(createInterface({ input: child.stdout }), 'line');
  return { port: Number(port), stop };
}
