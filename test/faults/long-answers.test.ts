import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { z } from 'zod';
import { account } from '../crash/account.ts';
import { SIZES } from '../crash/sizes.ts';
import { SOON } from '../support/limits.ts';
import { memoryLimit } from '../support/memory-limit.ts';
import { ScriptedMlflow } from '../support/scripted-mlflow.ts';
import { startSidecar } from '../support/sidecar.ts';
import { listen } from '../upstream/support.ts';
import { reload } from './harness.ts';

const MIB = 1024 * 1024;
const LOOP_DELAY = new URL('../support/preload/loop-delay.mjs', import.meta.url);
const COPIES = SIZES.longAnswers;
const Held = z.object({ longestMs: z.number() });

/** A sidecar that 512 MiB are enough for, and that says how long its event loop was held up. */
async function watched(env: Readonly<Record<string, string>>) {
  const dir = mkdtempSync(join(tmpdir(), 'sidecar-loop-'));
  const file = join(dir, 'loop.json');
  const limit = memoryLimit(512 * MIB);
  const preload = { NODE_OPTIONS: `--import=${LOOP_DELAY.href}`, LOOP_FILE: file };
  const sidecar = await startSidecar({ ...env, ...preload }, limit === null ? {} : { via: limit.via });
  onTestFinished(async () => {
    await sidecar.stop();
    await limit?.close();
    rmSync(dir, { recursive: true, force: true });
  });
  const longestMs = async () => {
    rmSync(file, { force: true });
    process.kill(sidecar.pid, 'SIGUSR2');
    await vi.waitFor(() => expect(existsSync(file)).toBe(true), SOON);
    return Held.parse(JSON.parse(readFileSync(file, 'utf8'))).longestMs;
  };
  // What the start took is none of it.
  await longestMs();
  return { sidecar, longestMs, peakMiB: () => Math.round((limit?.peak() ?? 0) / MIB) };
}

async function noted(
  what: string,
  { longestMs, peakMiB }: Awaited<ReturnType<typeof watched>>,
): Promise<void> {
  const longest = await longestMs();
  await account(`Long answers: ${what}`, {
    'longest stall, ms of the processor': Math.round(longest),
    'peak, MiB': peakMiB(),
  });
  expect(longest).toBeLessThan(100);
  expect(peakMiB()).toBeLessThan(512);
}

const FILES = { MLmodel: 'flavors: {}\n' };
const MLMODEL = '{"path":"MLmodel","is_dir":false,"file_size":12}';
const NAMES = Array.from({ length: 49_999 }, (_, n) => `{"path":"f${n}","is_dir":false,"file_size":1}`).join(
  ',',
);

const LISTINGS: readonly (readonly [string, string, string])[] = [
  ['7 MiB of tiny objects', `{"files":[${'{},'.repeat(2_400_000)}{}]}`, 'unsafe_path'],
  [
    '1.9 million values beside the files',
    `{"files":[${MLMODEL}],"x":[${'{},'.repeat(1_900_000)}{}]}`,
    'loaded',
  ],
  ['7 MiB of brackets', `{"files":[${MLMODEL}],"x":${'['.repeat(7 * MIB)}`, 'unsafe_path'],
  ['a text of 7 MiB', `{"files":[{"path":"${'x'.repeat(7 * MIB)}"}]}`, 'unsafe_path'],
  ['a text of 7 MiB of escapes', `{"files":[{"path":"${String.raw`\u0041`.repeat(MIB)}"}]}`, 'unsafe_path'],
  ['a number of 7 MiB', `{"files":[{"path":"a","file_size":${'1'.repeat(7 * MIB)}}]}`, 'unsafe_path'],
  ['50,000 names, one of them hostile', `{"files":[${NAMES},{"path":"../x"}]}`, 'unsafe_path'],
];

describe('in 512 MiB, without a stall, ends', () => {
  test.each(LISTINGS)('a listing of %s, many at once', async (what, text, end) => {
    const upstream = await ScriptedMlflow.start();
    onTestFinished(() => upstream.close());
    const stand = await watched(upstream.env);
    const listing = { '': Buffer.from(text) };
    const names = Array.from({ length: COPIES }, (_, n) => `m${n}`);
    for (const name of names) upstream.addVersion({ name, stage: 'Production', files: FILES, listing });
    const reloads = names.map(name =>
      reload(stand.sidecar.url, `models:/${name}/Production`, { deadline_s: 120 }),
    );
    const ends = (await Promise.all(reloads)).map(({ outcome }) => outcome.warning?.code ?? outcome.status);
    expect(ends).toEqual(names.map(() => end));
    expect(upstream.requests.filter(({ route }) => route === 'listing')).toHaveLength(COPIES);
    await noted(what, stand);
  });

  test.each([
    ['15 MiB of a search', 'runs/search', `{"runs":[${'{},'.repeat(5_200_000)}{}]}`],
    ['8 MB of a model’s metric curves', 'logged-models/m-1', curves()],
  ])('%s through the proxy, many at once', async (what, path, text) => {
    const bytes = Buffer.from(text);
    const server = createServer((req, res) => {
      req.resume();
      res
        .writeHead(200, { 'content-type': 'application/json', 'content-length': bytes.byteLength })
        .end(bytes);
    });
    const stand = await watched({ MLFLOW_TRACKING_URI: await listen(server) });
    const ask = async () => {
      const init = path.endsWith('/search') ? { method: 'POST', body: '{"experiment_ids":["0"]}' } : {};
      const headers = { 'content-type': 'application/json' };
      const answer = await fetch(`${stand.sidecar.url}/api/2.0/mlflow/${path}`, { ...init, headers });
      return [answer.status, Buffer.from(await answer.arrayBuffer()).equals(bytes)];
    };
    const answers = await Promise.all(Array.from({ length: COPIES }, ask));
    expect(answers).toEqual(Array.from({ length: COPIES }, () => [200, true]));
    await noted(what, stand);
  });
});

function curves(): string {
  const metrics = Array.from({ length: 40_000 }, (_, step) => ({
    ...{ key: 'validation_loss', value: step / 7, timestamp: 1_731_358_595_000, step },
    ...{ model_id: 'm-0123456789abcdef0123456789abcdef', run_id: '0123456789abcdef0123456789abcdef' },
  }));
  const info = { model_id: 'm-1', artifact_uri: 'mlflow-artifacts:/0/models/m-1/artifacts' };
  return JSON.stringify({ model: { info, data: { metrics } } });
}
