import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { reload } from '../faults/harness.ts';
import { ScriptedMlflow } from '../support/scripted-mlflow.ts';
import { startSidecar } from '../support/sidecar.ts';
import { account } from './account.ts';
import { readSnapshot, type Shape } from './content.ts';
import {
  addVersion,
  faultsOf,
  givenSeed,
  makeCache,
  REF,
  refPath,
  removeCache,
  seeded,
  shownVersion,
  startReader,
} from './harness.ts';
import { SIZES } from './sizes.ts';

const KILLS = SIZES.sharedKills;
const SHAPE: Shape = { files: 20, bytes: 10 * 1024 };
/** About as long as a reload of one of these takes. */
const LONGEST_MS = 150;

let upstream: ScriptedMlflow;
let cacheDir: string;
beforeAll(async () => {
  upstream = await ScriptedMlflow.start();
  cacheDir = await makeCache();
});
afterAll(async () => {
  await upstream.close();
  await removeCache(cacheDir);
});

async function start() {
  const sidecar = await startSidecar({ ...upstream.env, SIDECAR_CACHE_DIR: cacheDir });
  onTestFinished(async () => void (await sidecar.stop()));
  return sidecar;
}

function uriOf(name: string): string {
  return `models:/${name}/${REF}`;
}

test(
  `of two sidecars on one cache one is killed ${KILLS} times: the other gives whole versions all the while, and loses none`,
  async () => {
    const random = seeded(givenSeed());
    const survivor = await start();
    let sidecar = await start();
    for (const name of ['both', 'own']) addVersion(upstream, SHAPE, name);
    for (const name of ['both', 'own']) await reload(survivor.url, uriOf(name));
    const readers = await Promise.all(['both', 'own'].map(name => startReader(refPath(cacheDir, name))));
    for (let n = 0; n < KILLS; n++) {
      const wanted = addVersion(upstream, SHAPE, 'both');
      const cut = reload(sidecar.url, uriOf('both'), { force: true }).catch(() => undefined);
      // Half the time the survivor fetches the same version at the same moment.
      const beside = n % 2 === 0 ? null : reload(survivor.url, uriOf('both'), { force: true });
      await delay(random() * LONGEST_MS);
      process.kill(sidecar.pid, 'SIGKILL');
      await Promise.all([cut, sidecar.exited]);
      const [both, own] = [
        (await beside) ?? (await reload(survivor.url, uriOf('both'))),
        addVersion(upstream, SHAPE, 'own'),
      ];
      expect(both.outcome).toMatchObject({ version: wanted, warning: null });
      expect((await readSnapshot(both.outcome.path ?? '')).version).toBe(wanted);
      expect((await reload(survivor.url, uriOf('own'))).outcome).toMatchObject({
        status: 'loaded',
        version: own,
      });
      sidecar = await start();
      expect(await shownVersion(sidecar.url, 'both')).toBe(wanted);
    }
    const seen = await Promise.all(readers.map(reader => reader.stop()));
    const faults = seen.flatMap(reader => reader.faults);
    const reads = seen.reduce((sum, { rounds }) => sum + rounds, 0);
    await account('kill -9 of one of two on a cache', { kills: KILLS, reads, torn: faults.length });
    expect(faults).toEqual([]);
    await sidecar.stop();
    expect(await faultsOf(cacheDir, survivor.pid)).toEqual([]);
  },
  120_000 + KILLS * 4_000,
);
