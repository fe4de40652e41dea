import { readFile } from 'node:fs/promises';
import { expect, onTestFinished, test } from 'vitest';
import { z } from 'zod';
import { SIZES } from '../crash/sizes.ts';
import { longestStallMs } from '../support/event-loop.ts';
import { ScriptedMlflow } from '../support/scripted-mlflow.ts';
import { type RunningSidecar, startSidecar } from '../support/sidecar.ts';
import { modelFiles, reload } from './harness.ts';

const DEEP = 62;
const URI = 'models:/deep/Production';
const LISTINGS = '/api/2.0/mlflow-artifacts/artifacts?path=';
const Listing = z.object({ files: z.array(z.object({ path: z.string(), is_dir: z.boolean() })).default([]) });
/** Of a process that is to live within 512 MiB. */
const MOST_MIB = 400;

/** @param name of each directory */
function deepFiles(count: number, name: string): Readonly<Record<string, string | Buffer>> {
  const dir = Array.from({ length: DEEP }, () => name).join('/');
  const files: [string, string][] = Array.from({ length: count }, (_, n) => [
    `${dir}/${n.toString(36).padStart(4, '0')}`,
    `content ${n % 100}`,
  ]);
  return { ...modelFiles('deep'), ...Object.fromEntries(files) };
}

async function start(files: ReturnType<typeof deepFiles>) {
  const upstream = await ScriptedMlflow.start();
  onTestFinished(() => upstream.close());
  const version = upstream.addVersion({ name: 'deep', stage: 'Production', files });
  const sidecar = await startSidecar({ ...upstream.env, SIDECAR_RELOAD_DEADLINE_S: '600' });
  onTestFinished(async () => void (await sidecar.stop()));
  return { sidecar, artifacts: version.downloadUri.slice('mlflow-artifacts:/'.length) };
}

async function peakMiB({ pid }: RunningSidecar): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return Math.round(Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? Number.NaN) / 1_024);
}

test('a tree of many files 62 directories deep holds nobody up, by reload, listings and restart', async () => {
  const { sidecar, artifacts } = await start(deepFiles(SIZES.deepFiles, 'dddd'));
  const { url } = sidecar;
  const stalls: Record<string, number> = {};
  await longestStallMs(url);
  const { outcome, ms } = await reload(url, URI, { deadline_s: 600 });
  stalls['reload'] = await longestStallMs(url);
  expect(outcome).toMatchObject({ status: 'loaded', warning: null });
  expect(outcome.files).toBeGreaterThan(SIZES.deepFiles);
  const lists = Array.from({ length: DEEP + 1 }, async (_, depth) => {
    const dir = [artifacts, ...Array.from({ length: depth }, () => 'dddd')].join('/');
    return Listing.parse(await (await fetch(`${url}${LISTINGS}${encodeURIComponent(dir)}`)).json()).files;
  });
  const listed = await Promise.all(lists);
  stalls['listings'] = await longestStallMs(url);
  expect(listed.slice(1, -1).every(([first]) => first?.path === 'dddd')).toBe(true);
  expect(listed.at(-1)).toHaveLength(SIZES.deepFiles);
  const forced = await reload(url, URI, { deadline_s: 600, force: true });
  stalls['again'] = await longestStallMs(url);
  expect(forced.outcome).toMatchObject({ status: 'loaded', digest: outcome.digest, warning: null });
  const peak = await peakMiB(sidecar);
  console.table([{ files: outcome.files, ms: Math.round(ms), ...stalls, peak }]);
  expect(Math.max(...Object.values(stalls))).toBeLessThan(SIZES.stallMs);
  expect(peak).toBeLessThan(MOST_MIB);
}, 900_000);

test('a tree whose paths take too much together is refused, in words', async () => {
  const { sidecar } = await start(deepFiles(9_000, 'd'.repeat(31)));
  await longestStallMs(sidecar.url);
  const { outcome } = await reload(sidecar.url, URI, { deadline_s: 60 });
  expect(outcome).toMatchObject({ status: 'failed', warning: { code: 'unsafe_path' } });
  expect(outcome.warning?.message).toMatch(/paths .* take more than 16 MiB together/);
  expect(await longestStallMs(sidecar.url)).toBeLessThan(SIZES.stallMs);
}, 120_000);
