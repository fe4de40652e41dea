import pLimit from 'p-limit';
import { systemClock } from '../../src/domain/clock.ts';
import { EventBus } from '../../src/domain/events.ts';
import { manifestOf } from '../../src/domain/manifest.ts';
import { parseModelUri } from '../../src/domain/model-uri.ts';
import { scopeOf } from '../../src/domain/scope.ts';
import { type ModelVersion, type VersionRoot, versionKey } from '../../src/domain/version.ts';
import { Store } from '../../src/store/store.ts';
import { timed } from './curl.ts';
import { atMost, median, percentile, type Verdict } from './report.ts';
import { reloaded, startToReady, withSidecar } from './sidecar.ts';
import type { Bench } from './upstream.ts';
import { fresh } from './work.ts';

const FEW = 10;
const MANY = 10_000;
const RELOADS = 500;
const ROUNDS = 5;
const PUBLISHES_IN_FLIGHT = 64;

/** What a full cache costs at the start and in a reload. */
export async function manyVersions({ upstream, dir }: Bench): Promise<readonly Verdict[]> {
  await upstream.register('one-of-many', new Map([['MLmodel', Buffer.from('flavors: {}\n')]]));
  const few = await cacheOf(FEW, upstream.url, await fresh(dir, 'few'));
  const many = await cacheOf(MANY, upstream.url, await fresh(dir, 'many'));
  const env = { MLFLOW_TRACKING_URI: upstream.url, SIDECAR_CACHE_DIR: many };
  const ready: number[] = [];
  const ratios: number[] = [];
  for (let n = 0; n < ROUNDS; n++) {
    ready.push(await startToReady(env));
    const base = await slowest(upstream.url, few);
    ratios.push((await slowest(upstream.url, many)) / base);
    console.log(`  ${ratios.at(-1)?.toFixed(2)}, ready after ${Math.round(ready.at(-1) ?? 0)} ms`);
  }
  return [
    atMost('versions', 'from the start to ready with 10,000 versions', median(ready), 2_000, 'ms'),
    atMost('versions', 'p99 of a reload ÷ that with 10', median(ratios), 1.2, '×'),
  ];
}

/** As many versions, each with files of its own, all of them published; one of them by the sidecar itself. */
async function cacheOf(count: number, registryUri: string, dir: string): Promise<string> {
  await withSidecar(registryUri, dir, async ({ url }) => await reloaded(url, 'one-of-many', 'loaded'));
  const own = scopeOf(registryUri, null, null);
  const store = await Store.open(dir, own, systemClock, new EventBus());
  const limit = pLimit(PUBLISHES_IN_FLIGHT);
  const publish = async (n: number) => {
    const source = `mlflow-artifacts:/0/models/m-${n}/artifacts`;
    const root: VersionRoot = { root: [source], version: versionKey(versionOf(n, source)) };
    const intake = await store.intake();
    const files = ['MLmodel', 'model.pkl', 'data/vocabulary.txt'].map(async path => ({
      path,
      ...(await intake.takeBytes(Buffer.from(`${path} of version ${n}\n`.repeat(50)))),
    }));
    const manifest = manifestOf(await Promise.all(files));
    const { snapshot } = await store.commit(own, root, manifest, intake);
    await intake.close();
    const uri = parseModelUri(`models:/model-${n}/Production`);
    const { digest, bytes } = manifest;
    const published = { version: versionOf(n, source), snapshot, digest, files: files.length, bytes };
    await store.refs.publish(own, uri, published, n, Date.now());
  };
  await Promise.all(Array.from({ length: count - 1 }, (_, n) => limit(() => publish(n + 1))));
  await store.close();
  return dir;
}

function versionOf(n: number, source: string): ModelVersion {
  return {
    name: `model-${n}`,
    version: '1',
    createdMs: n,
    stage: 'Production',
    aliases: [],
    runId: `run-${n}`,
    modelId: null,
    source,
  };
}

async function slowest(registryUri: string, dir: string): Promise<number> {
  return await withSidecar(registryUri, dir, async ({ url }) => {
    const took: number[] = [];
    for (let n = 0; n < RELOADS; n++) took.push(await timed(() => reloaded(url, 'one-of-many', 'unchanged')));
    return percentile(took, 99);
  });
}
