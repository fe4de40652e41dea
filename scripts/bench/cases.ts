import { randomBytes } from 'node:crypto';
import { cappedProxy } from './capped-proxy.ts';
import { curlFile, curlFiles, mlflowDownload, timed } from './curl.ts';
import { manyVersions } from './many-versions.ts';
import { GIB, LARGE, MIB, modelOf, registerLarge } from './models.ts';
import { pairs } from './pairs.ts';
import { proxyBytes } from './proxy-bytes.ts';
import { proxyLoad } from './proxy-load.ts';
import { proxyMetadata } from './proxy-metadata.ts';
import { atLeast, atMost, median, type Verdict } from './report.ts';
import { coldReload, peakMemory, reloaded, startToReady, withSidecar } from './sidecar.ts';
import type { Bench } from './upstream.ts';
import { fresh, unused } from './work.ts';

const PAIRS = 5;
const CAP = 20e6;

type Case = (bench: Bench) => Promise<readonly Verdict[]>;

export const CASES: Readonly<Record<string, Case>> = {
  start,
  unchanged,
  files,
  file: largeFile,
  ranges,
  memory,
  versions: manyVersions,
  'proxy-load': proxyLoad,
  'proxy-metadata': proxyMetadata,
  'proxy-bytes': proxyBytes,
};

async function start({ upstream, dir }: Bench): Promise<readonly Verdict[]> {
  const took: number[] = [];
  for (let n = 0; n < PAIRS; n++) {
    const cacheDir = await fresh(dir, 'cache');
    took.push(await startToReady({ MLFLOW_TRACKING_URI: upstream.url, SIDECAR_CACHE_DIR: cacheDir }));
  }
  return [atMost('start', 'from the start to ready', median(took), 400, 'ms')];
}

async function unchanged({ upstream, dir }: Bench): Promise<readonly Verdict[]> {
  await upstream.register('small', modelOf('small'));
  const question = `${upstream.url}/api/2.0/mlflow/registered-models/get-latest-versions`;
  const init = {
    method: 'POST',
    headers: { 'content-type': 'application/json', connection: 'close' },
    body: JSON.stringify({ name: 'small' }),
  };
  const ask = () => timed(async () => await (await fetch(question, init)).text());
  return await withSidecar(upstream.url, await fresh(dir, 'cache'), async ({ url }) => {
    await reloaded(url, 'small', 'loaded');
    const medianOf = async (one: () => Promise<number>) => {
      const took: number[] = [];
      for (let n = 0; n < 50; n++) took.push(await one());
      return median(took);
    };
    const ratios = await pairs(
      () => medianOf(async () => (await reloaded(url, 'small', 'unchanged')).ms),
      () => medianOf(ask),
    );
    return [atMost('unchanged', 'a reload ÷ the one registry call', median(ratios), 1.15, '×')];
  });
}

async function files({ upstream, dir }: Bench): Promise<readonly Verdict[]> {
  const content = Array.from({ length: 999 }, (_, n): [string, Buffer] => [
    `data/f${n}`,
    randomBytes(10_240),
  ]);
  const model = modelOf('files', content);
  const { address, source } = await upstream.register('files', model);
  const urls = [...model.keys()].map(address);
  const ours = async () => await coldReload(upstream.url, await unused(dir, 'cache'), 'files');
  const curl = await pairs(ours, async () => await curlFiles(urls, await unused(dir, 'out')));
  const mlflow = await pairs(
    async () => await mlflowDownload(upstream.url, source, await unused(dir, 'out')),
    ours,
  );
  return [
    atMost('files', '1,000 files of 10 KiB ÷ curl, 32 at once', median(curl), 0.65, '×'),
    atLeast('files', '`mlflow artifacts download` ÷ the same', median(mlflow), 9, '×'),
  ];
}

async function largeFile({ upstream, dir }: Bench): Promise<readonly Verdict[]> {
  const { address } = await registerLarge({ upstream, dir }, 'file', GIB);
  const ratios = await pairs(
    async () => await coldReload(upstream.url, await fresh(dir, 'cache'), 'file'),
    async () => await curlFile(address(LARGE), await fresh(dir, 'out')),
  );
  return [atMost('file', '1 GiB ÷ curl and sync -d', median(ratios), 0.95, '×')];
}

/** 256 MiB and a little come in parts; 256 MiB do not, and one connection is what they come by. */
async function ranges(bench: Bench): Promise<readonly Verdict[]> {
  const { upstream, dir } = bench;
  await registerLarge(bench, 'in-parts', 257 * MIB);
  const { address } = await registerLarge(bench, 'in-one', 257 * MIB);
  const capped = await cappedProxy(upstream.url, CAP);
  const one = address(LARGE).replace(upstream.url, capped);
  const ratios = await pairs(
    async () => await curlFile(one, await fresh(dir, 'out')),
    async () => await coldReload(capped, await fresh(dir, 'cache'), 'in-parts'),
  );
  return [atLeast('ranges', 'one connection of 20 MB/s ÷ 4 ranges', median(ratios), 3, '×')];
}

async function memory(bench: Bench): Promise<readonly Verdict[]> {
  const { upstream, dir } = bench;
  await registerLarge(bench, 'huge', 4 * GIB);
  const peak = await withSidecar(upstream.url, await fresh(dir, 'cache'), async ({ url, pid }) => {
    await reloaded(url, 'huge', 'loaded');
    return await peakMemory(pid);
  });
  await fresh(dir, 'cache');
  return [atMost('memory', 'at the peak of a download of 4 GiB', peak, 128, 'MB')];
}
