import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { reload } from '../faults/harness.ts';
import { ScriptedMlflow } from '../support/scripted-mlflow.ts';
import { startSidecar } from '../support/sidecar.ts';
import { account } from './account.ts';
import { fastClock } from './clock.ts';
import { filesOf, readSnapshot, type Shape } from './content.ts';
import { makeCache, NAME, removeCache, startReader } from './harness.ts';
import { SIZES } from './sizes.ts';

const { publishes: PUBLISHES, readers: READERS } = SIZES;
const PROCESSES = 2;
const ALIAS = 'champion';
const URI = `models:/${NAME}@${ALIAS}`;
const SHAPE: Shape = { files: 3, bytes: 114 * 1024 };
const MAX_BYTES = 1_100_000;
/** What was superseded is kept for readers for 30 s; here it is for a tenth of that, and collected all the while. */
const CLOCK_TIMES = 10;
const KEPT_MS = 3_000;
/** Most of it goes into syncs, and the readers take their share of the machine. */
const PUBLISH_MS = 300;

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

/** The only version that MLflow has any more, under the alias. */
function nextVersion(version: string): void {
  for (const old of upstream.models.versionsOf(NAME)) upstream.models.purgeVersion(old);
  upstream.addVersion({ name: NAME, version, aliases: [ALIAS], files: filesOf(version, SHAPE) });
}

test(
  `${READERS} readers through ${PUBLISHES} publishes, with room for three versions: no reader sees an error`,
  async () => {
    const sidecar = await startSidecar({
      ...upstream.env,
      SIDECAR_CACHE_DIR: cacheDir,
      ...fastClock(CLOCK_TIMES),
      SIDECAR_CACHE_MAX_BYTES: String(MAX_BYTES),
    });
    onTestFinished(async () => void (await sidecar.stop()));
    nextVersion('1');
    const { outcome: first } = await reload(sidecar.url, URI);
    const readers = await Promise.all(
      Array.from({ length: PROCESSES }, () => startReader(first.ref_path ?? '', READERS / PROCESSES)),
    );
    const started = performance.now();
    let recent: readonly number[] = [];
    for (let n = 2; n <= PUBLISHES; n++) {
      nextVersion(String(n));
      const { outcome } = await reload(sidecar.url, URI);
      expect(outcome).toMatchObject({ status: 'loaded', version: String(n), warning: null });
      const now = performance.now();
      recent = [...recent.filter(at => at > now - 2 * KEPT_MS), now];
    }
    const seconds = (performance.now() - started) / 1_000;
    const seen = await Promise.all(readers.map(reader => reader.stop()));
    const faults = seen.flatMap(reader => reader.faults);
    const reads = seen.reduce((sum, { rounds }) => sum + rounds, 0);
    const snapshots = await readdir(join(cacheDir, 'v1', 'snapshots'));
    const counts = { publishes: PUBLISHES, readers: READERS, reads, torn: faults.length };
    await account('readers through publishes', counts);
    console.table([{ ...counts, seconds: Math.round(seconds), snapshots: snapshots.length }]);
    expect(faults).toEqual([]);
    expect(snapshots.length).toBeLessThanOrEqual(recent.length + 3);
    expect(reads).toBeGreaterThan(READERS);
    for (const id of snapshots.slice(0, 100)) await readSnapshot(join(cacheDir, 'v1', 'snapshots', id));
  },
  120_000 + PUBLISHES * PUBLISH_MS,
);
