import { train } from '../../test/support/real-mlflow.ts';
import { type Loader, startLoader } from './loader.ts';
import { cachedFor1s, startNginx } from './nginx.ts';
import { atMost, median, type Verdict } from './report.ts';
import { inProduction, withSidecar } from './sidecar.ts';
import { type Bench, MLFLOW } from './upstream.ts';
import { fresh } from './work.ts';

const ROUNDS = 15;
/** In each round, after one that is not counted: what was cached for a second is older than that by then. */
const LOADS = 3;

/** What an unmodified client gains by the proxy, and what it would by nginx. */
export async function proxyLoad({ upstream, dir }: Bench): Promise<readonly Verdict[]> {
  const name = 'proxy-load';
  await train(MLFLOW, upstream.url, [name]);
  const nginx = await startNginx(cachedFor1s(upstream.url), await fresh(dir, 'nginx'));
  const loader = startLoader(inProduction(name), await fresh(dir, 'loads'));
  const through = async <T>(freshS: string, work: (url: string) => Promise<T>) => {
    const cacheDir = await fresh(dir, `cache-${freshS}`);
    return await withSidecar(upstream.url, cacheDir, ({ url }) => work(url), { SIDECAR_FRESH_S: freshS });
  };
  try {
    const [direct = 0, asked = 0, fresh1s = 0, cached1s = 0] = await through('0', async askedUrl =>
      through('1', async fresh1sUrl => warmLoads(loader, [upstream.url, askedUrl, fresh1sUrl, nginx.url])),
    );
    console.log(`  direct ${Math.round(direct)} ms, nginx ${Math.round(cached1s)} ms`);
    console.log(`  the sidecar ${Math.round(asked)} ms, with SIDECAR_FRESH_S=1 ${Math.round(fresh1s)} ms`);
    return [
      atMost(name, 'a warm load ÷ a direct one', asked / direct, 0.5, '×'),
      atMost(name, 'SIDECAR_FRESH_S=1 ÷ nginx, proxy_cache for 1 s', fresh1s / cached1s, 1.3, '×'),
    ];
  } finally {
    loader.stop();
    nginx.stop();
  }
}

/** By each of the tracking URIs in turn: medians in milliseconds. */
async function warmLoads(loader: Loader, urls: readonly string[]): Promise<readonly number[]> {
  const ways = urls.map(url => ({ url, took: [] as number[] }));
  for (let round = 0; round < ROUNDS; round++) {
    // Whoever comes first in one round comes last in the next.
    const first = round % ways.length;
    for (const { url, took } of [...ways.slice(first), ...ways.slice(0, first)]) {
      await loader.load(url);
      for (let n = 0; n < LOADS; n++) took.push(await loader.load(url));
    }
  }
  return ways.map(({ took }) => median(took));
}
