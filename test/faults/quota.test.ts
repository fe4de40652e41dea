import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pLimit from 'p-limit';
import { expect, onTestFinished, test } from 'vitest';
import { account } from '../crash/account.ts';
import { SIZES } from '../crash/sizes.ts';
import { loadModel } from '../support/mlflow-load.ts';
import { type Files, ScriptedMlflow } from '../support/scripted-mlflow.ts';
import { startSidecar } from '../support/sidecar.ts';
import { reload } from './harness.ts';

const URI = 'models:/churn/Production';
const MAX_BYTES = 1_048_576;

test('a version for which the cache has no room leaves the last good one, with the numbers and the option’s name', async () => {
  const upstream = await ScriptedMlflow.start();
  const dir = await mkdtemp(join(tmpdir(), 'sidecar-quota-'));
  const env = { ...upstream.env, SIDECAR_CACHE_DIR: dir, SIDECAR_CACHE_MAX_BYTES: String(MAX_BYTES) };
  const sidecar = await startSidecar(env);
  onTestFinished(async () => {
    await sidecar.stop();
    await upstream.close();
    await rm(dir, { recursive: true, force: true });
  });
  const add = (bytes: number) =>
    upstream.addVersion({
      name: 'churn',
      stage: 'Production',
      files: { MLmodel: 'flavors: {}\n', 'large.bin': Buffer.alloc(bytes, String(bytes)) },
    });

  add(600_000);
  const first = (await reload(sidecar.url, URI)).outcome;
  expect(first).toMatchObject({ status: 'loaded', version: '1' });

  add(700_000);
  const second = (await reload(sidecar.url, URI)).outcome;
  expect(second).toMatchObject({ status: 'stale', version: '1', wanted_version: '2', path: first.path });
  expect(second.warning).toMatchObject({ code: 'disk_full', hint: 'Raise SIDECAR_CACHE_MAX_BYTES.' });
  expect(second.warning?.message).toMatch(
    /no room for the 684 KiB that the version needs.* It holds 586 KiB of 1\.0 MiB \(SIDECAR_CACHE_MAX_BYTES\)/,
  );

  add(MAX_BYTES);
  const third = (await reload(sidecar.url, URI)).outcome;
  expect(third).toMatchObject({ status: 'stale', version: '1', wanted_version: '3' });
  expect(third.warning?.message).toContain('more than the whole cache may hold');

  add(300_000);
  expect((await reload(sidecar.url, URI)).outcome).toMatchObject({
    status: 'loaded',
    version: '4',
    warning: null,
  });
  const status: unknown = await (await fetch(`${sidecar.url}/v1/status`)).json();
  expect(status).toMatchObject({ cache: { max_bytes: MAX_BYTES, free_bytes: expect.any(Number) } });
});

/** Of all contents in a cache. */
async function contentBytes(cacheDir: string): Promise<number> {
  const dir = join(cacheDir, 'v1/blobs');
  const entries = await readdir(dir, { recursive: true, withFileTypes: true });
  const files = entries.filter(entry => entry.isFile()).map(entry => join(entry.parentPath, entry.name));
  const sizes = files.map(file =>
    stat(file).then(
      ({ size }) => size,
      () => 0,
    ),
  );
  return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
}

test.each(['through the proxy', 'by a reload of its number'])(
  'each of many versions is loaded %s, under a quota of three and a half of them',
  async way => {
    const { versions, bytes } = SIZES.numbered;
    const quota = 3.5 * bytes;
    const upstream = await ScriptedMlflow.start();
    const sidecar = await startSidecar({ ...upstream.env, SIDECAR_CACHE_MAX_BYTES: String(quota) });
    onTestFinished(async () => {
      await sidecar.stop();
      await upstream.close();
    });
    const label = (version: string) => `weights of version ${version} `;
    const add = (version: string, stage?: string) =>
      upstream.addVersion({
        name: 'churn',
        version,
        ...(stage === undefined ? {} : { stage }),
        files: { MLmodel: `version: ${version}\n`, 'data/weights.bin': Buffer.alloc(bytes, label(version)) },
      });
    add('1', 'Production');
    const production = (await reload(sidecar.url, URI)).outcome;
    let most = 0;
    for (let number = 2; number <= versions + 1; number++) {
      const version = String(number);
      const added = add(version);
      if (way === 'through the proxy') {
        const { files } = await loadModel(sidecar.url, `models:/churn/${version}`);
        expect(files.get('data/weights.bin')?.equals(Buffer.alloc(bytes, label(version)))).toBe(true);
      } else {
        const { outcome } = await reload(sidecar.url, `models:/churn/${version}`);
        expect(outcome).toMatchObject({ status: 'loaded', version, warning: null });
        const weights = await readFile(join(outcome.path ?? '', 'data/weights.bin'));
        expect(weights.equals(Buffer.alloc(bytes, label(version)))).toBe(true);
      }
      upstream.models.purgeVersion(added);
      most = Math.max(most, await contentBytes(sidecar.cacheDir));
    }
    await account('versions loaded once under a small quota', {
      versions,
      mostMiB: Math.round(most / 1_048_576),
    });
    // What was given just now may be over it.
    expect(most).toBeLessThanOrEqual(quota + 1.1 * bytes);
    // What the model's stage means is as it was.
    expect((await reload(sidecar.url, URI)).outcome).toMatchObject({
      status: 'unchanged',
      path: production.path,
    });
  },
  600_000,
);

/** Of files, links and directories below; without what MLflow said last, of which a limited number is kept. */
async function entriesIn(dir: string): Promise<number> {
  const paths = await readdir(dir, { recursive: true });
  return paths.filter(path => !path.startsWith('v1/state/answers/')).length;
}

async function residentMiB(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1]) / 1_024;
}

test('paths of a run of which nothing can be had, and tokens that are new each time, fill neither disk nor memory', async () => {
  const { tokens, paths } = SIZES.rotating;
  const upstream = await ScriptedMlflow.start();
  const sidecar = await startSidecar(upstream.env);
  onTestFinished(async () => {
    await sidecar.stop();
    await upstream.close();
  });
  const parts = Array.from({ length: 30 }, (_, n) => [`part-${n}.txt`, `${n}`]);
  const files: Files = { MLmodel: 'flavors: {}\n', ...Object.fromEntries(parts) };
  const { runId } = upstream.addVersion({ name: 'churn', stage: 'Production', files });
  const few = pLimit(8);
  const first = await reload(sidecar.url, `runs:/${runId}/no-such-path`);
  expect(first.outcome).toMatchObject({ path: null });
  const [entries, memory] = [await entriesIn(sidecar.cacheDir), await residentMiB(sidecar.pid)];
  await Promise.all(
    Array.from({ length: paths }, (_, n) =>
      few(async () => {
        const { outcome } = await reload(sidecar.url, `runs:/${runId}/no-such-path-${n}`);
        expect(outcome.path).toBeNull();
      }),
    ),
  );
  const afterPaths = await entriesIn(sidecar.cacheDir);
  // What is in work comes and goes.
  expect(afterPaths - entries).toBeLessThan(20);
  expect((await readdir(join(sidecar.cacheDir, 'v1/state/answers'))).length).toBeLessThanOrEqual(2_100);
  await Promise.all(
    Array.from({ length: tokens }, (_, n) =>
      few(async () => {
        const headers = { authorization: `Bearer token-${n}` };
        const { outcome } = await reload(sidecar.url, URI, {}, { headers });
        expect(outcome).toMatchObject({ status: 'loaded', warning: null });
      }),
    ),
  );
  const afterTokens = await entriesIn(sidecar.cacheDir);
  // Those beyond 256 go once they are unused for five minutes.
  const perToken = Math.round((afterTokens - afterPaths) / tokens);
  const grownMiB = Math.round((await residentMiB(sidecar.pid)) - memory);
  await account('paths and tokens', { tokens, paths, entries: afterTokens, perToken, grownMiB });
  expect(grownMiB).toBeLessThan(150);
}, 600_000);
