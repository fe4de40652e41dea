import { curlNowhere } from './curl.ts';
import { GIB, LARGE, registerLarge } from './models.ts';
import { filesOf, startNginx } from './nginx.ts';
import { pairs } from './pairs.ts';
import { atLeast, median, type Verdict } from './report.ts';
import { reloaded, withSidecar } from './sidecar.ts';
import type { Bench } from './upstream.ts';
import { fresh } from './work.ts';

const PAIRS = 9;

/** The same file of the store, sent by the proxy and by nginx. */
export async function proxyBytes(bench: Bench): Promise<readonly Verdict[]> {
  const { upstream, dir } = bench;
  const name = 'proxy-bytes';
  const { address } = await registerLarge(bench, name, GIB);
  return await withSidecar(upstream.url, await fresh(dir, 'cache'), async ({ url }) => {
    const { outcome } = await reloaded(url, name, 'loaded');
    const nginx = await startNginx(filesOf(outcome.path ?? ''), await fresh(dir, 'nginx'));
    const theirs = async () => await curlNowhere(`${nginx.url}/${LARGE}`);
    const ours = async () => await curlNowhere(address(LARGE).replace(upstream.url, url));
    // From the disk into the machine's memory.
    await theirs();
    const ratios = await pairs(theirs, ours, PAIRS);
    nginx.stop();
    return [atLeast(name, '1 GiB, bytes a second ÷ those of nginx', median(ratios), 0.8, '×')];
  });
}
