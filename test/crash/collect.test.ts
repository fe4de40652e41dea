import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { reload } from '../faults/harness.ts';
import { ScriptedMlflow } from '../support/scripted-mlflow.ts';
import { startSidecar } from '../support/sidecar.ts';
import { account } from './account.ts';
import { fastClock } from './clock.ts';
import { filesBelow, readWhole, type Shape } from './content.ts';
import { addVersion, faultsOf, makeCache, REF, refPath, removeCache } from './harness.ts';
import { Trouble } from './trouble.ts';

const SHAPE: Shape = { files: 3, bytes: 114 * 1024 };
/** There is room for four versions, and what is superseded is kept for 30 ms. */
const MAX_BYTES = 1_500_000;
const CLOCK_SPEED = 1_000;
/** What a collection moves and removes; what a publish does in its own directory is not of it. */
const OF_COLLECTION =
  /^(rename (blobs|snapshots|models|state)\/.* -> |(rm|unlink|rmdir) (?!tmp\/.*(own|part)))/;
const MOST = 200;
const STAYS = 'stays';
const CHURN = 'churn';

let upstream: ScriptedMlflow;
beforeAll(async () => {
  upstream = await ScriptedMlflow.start();
});
afterAll(() => upstream.close());

async function sizeOf(cacheDir: string): Promise<number> {
  const blobs = join(cacheDir, 'v1', 'blobs');
  const found = await Promise.all((await filesBelow(blobs)).map(path => stat(join(blobs, path))));
  return found.reduce((sum, { size }) => sum + size, 0);
}

async function start() {
  const cacheDir = await makeCache();
  onTestFinished(() => removeCache(cacheDir));
  const trouble = await Trouble.make();
  const sidecar = await startSidecar({
    ...upstream.env,
    ...trouble.env,
    ...fastClock(CLOCK_SPEED, trouble.env['NODE_OPTIONS']),
    SIDECAR_CACHE_DIR: cacheDir,
    SIDECAR_CACHE_MAX_BYTES: String(MAX_BYTES),
  });
  onTestFinished(async () => void (await sidecar.stop()));
  return { cacheDir, trouble, sidecar };
}

test('EIO at each rename and removal of a collection: nothing published is lost, and the next one makes room', async () => {
  const { cacheDir, trouble, sidecar } = await start();
  const uri = `models:/${CHURN}/${REF}`;
  const stays = addVersion(upstream, SHAPE, STAYS);
  expect((await reload(sidecar.url, `models:/${STAYS}/${REF}`)).outcome).toMatchObject({ status: 'loaded' });
  let published = '';
  const publish = async () => {
    const wanted = addVersion(upstream, SHAPE, CHURN);
    const { outcome } = await reload(sidecar.url, uri);
    return { wanted, outcome };
  };
  for (let n = 0; n < 4; n++) published = (await publish()).wanted;
  const wrong: string[] = [];
  let failures = 0;
  for (let nth = 1; nth <= MOST; nth++) {
    await trouble.plan({ match: OF_COLLECTION, nth, act: 'EIO' });
    // Not each publish has to make room.
    let cut = await publish();
    let operation = (await trouble.counted())[nth - 1];
    for (let n = 0; n < 2 && operation === undefined; n++) {
      if (cut.outcome.status === 'loaded') published = cut.wanted;
      cut = await publish();
      operation = (await trouble.counted())[nth - 1];
    }
    await trouble.clear();
    if (operation === undefined) break;
    failures += 1;
    const say = (what: string) => wrong.push(`EIO at ${nth}, ${operation}: ${what}`);
    const given = await readWhole(refPath(cacheDir, CHURN)).catch(String);
    if (given !== published && given !== cut.wanted) say(`${given} is given, ${published} was published`);
    const kept = await readWhole(refPath(cacheDir, STAYS)).catch(String);
    if (kept !== stays) say(`of the other model ${kept} is given`);
    let next = await publish();
    // What is left of the one that was cut short is the next one's to remove, whatever else that makes room for.
    for (let n = 0; n < 2 && (await sizeOf(cacheDir)) > MAX_BYTES; n++) next = await publish();
    if (next.outcome.status !== 'loaded' || next.outcome.version !== next.wanted) {
      say(`the next publish is ${next.outcome.status}: ${next.outcome.warning?.message}`);
    }
    published = await readWhole(refPath(cacheDir, CHURN)).catch(String);
    const bytes = await sizeOf(cacheDir);
    if (bytes > MAX_BYTES) say(`${bytes} bytes are in the cache after three more publishes`);
  }
  console.table([{ failures, wrong: wrong.length }]);
  await account('file operations of a collection that failed', { failures, wrong: wrong.length });
  expect(wrong).toEqual([]);
  expect(failures).toBeGreaterThan(5);
  expect((await readdir(join(cacheDir, 'v1', 'snapshots'))).length).toBeLessThanOrEqual(4);
  await sidecar.stop();
  expect(await faultsOf(cacheDir, sidecar.pid)).toEqual([]);
}, 300_000);
