import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { atMost, IS_STRICT } from '../support/limits.ts';
import { type Certificates, makeCertificates } from '../support/scripted/certificates.ts';
import { GRACE_MS, modelFiles, reload, until } from './harness.ts';
import { holdingsOf, leaksOf, runsOver } from './matrix-leaks.ts';
import { raise, type Stand } from './matrix-stand.ts';
import { type Cell, cellsOf } from './matrix-table.ts';

/** Time enough for MLflow, which is well, to be asked. */
const ASKED = { deadline_s: 20, refresh_wait_s: 20 };

let certificates: Certificates;

beforeAll(async () => {
  certificates = await makeCertificates();
});

afterAll(() => certificates.remove());

async function standOf(found: Cell | undefined): Promise<Stand> {
  if (found === undefined) throw new Error('no such cell');
  const stand = await raise(found, certificates);
  onTestFinished(() => stand.close());
  return stand;
}

test('what a fetch under way has open shows: connections, files, timers', async () => {
  const stand = await standOf(cellsOf('file').find(({ evil }) => evil.kind === 'stall'));
  const before = await until(5_000, async () => {
    const now = await holdingsOf(stand.sidecar, stand.probeFile);
    return now.includes('connection to somebody') ? null : now;
  });
  await stand.strike();
  await reload(stand.sidecar.url, 'models:/cold/Production', { deadline_s: 0.5 });
  const isConnection = (held: string) => held === 'connection to somebody';
  const isFile = (held: string) => held.startsWith(stand.sidecar.cacheDir);
  const open = await until(5_000, async () => {
    const now = leaksOf(before, await holdingsOf(stand.sidecar, stand.probeFile));
    return now.some(isFile) && now.filter(isConnection).length === 3 ? now : null;
  });
  expect(open).toContain('TCPSocketWrap');
  // Smaller ones are gathered in memory.
  expect(open.filter(isFile)).toHaveLength(1);
  expect(open.filter(held => /^timer of 1(79|80)\d{4}\b/.test(held))).toHaveLength(1);
  await stand.calm();
  stand.upstream.hangUp();
  await runsOver(stand.sidecar, 20_000);
  const left = await until(5_000, async () => {
    const now = leaksOf(before, await holdingsOf(stand.sidecar, stand.probeFile));
    return now.length === 0 ? now : null;
  });
  expect(left).toEqual([]);
});

/** As many as there are threads; a busy machine refuses some of so many. */
const CALLS = IS_STRICT ? 64 : 20;

test(`with every thread of the disk hung, ${CALLS} calls at once get what they had, and others are answered`, async () => {
  const stand = await standOf(cellsOf('registry').find(({ evil }) => evil.kind === 'disk'));
  const { url } = stand.sidecar;
  await stand.strike();
  await reload(url, 'models:/warm/Production', { refresh_wait_s: 0.5 });
  const calls = Array.from({ length: CALLS }, () => reload(url, 'models:/warm/Production', ASKED));
  const startedAt = performance.now();
  expect((await fetch(`${url}/healthz`)).status).toBe(200);
  expect(performance.now() - startedAt).toBeLessThan(atMost(GRACE_MS));
  for (const { outcome, ms } of await Promise.all(calls)) {
    expect(outcome).toMatchObject({ status: 'unchanged', name: 'warm', version: '1' });
    expect(ms).toBeLessThan(atMost(1_000 + GRACE_MS));
  }
  await stand.calm();
  stand.upstream.addVersion({ name: 'warm', stage: 'Production', files: modelFiles('warm-2') });
  const { outcome } = await reload(url, 'models:/warm/Production', { deadline_s: 10 });
  expect(outcome).toMatchObject({ status: 'loaded', version: '2' });
});
