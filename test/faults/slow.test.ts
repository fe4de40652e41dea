import { describe, type TestContext, test } from 'vitest';
import { atMost } from '../support/limits.ts';
import { GRACE_MS, modelFiles, reload, until, wrongFiles } from './harness.ts';
import { dismantle, prepare, type Stage } from './matrix.ts';

/** What takes long by its nature, all at once: it is waiting, and none of its limits is narrow. */
const SLOW = { timeout: 120_000 };
const WARM = 'models:/warm/Production';
const COLD = 'models:/cold/Production';

async function stageOf({ onTestFinished }: TestContext): Promise<Stage> {
  const stage = await prepare();
  onTestFinished(() => dismantle(stage));
  return stage;
}

describe.concurrent('in the end', SLOW, () => {
  test('files at a byte a second are given up after 30 s below the progress floor, and asked for again until the deadline', async context => {
    const { upstream, sidecar } = await stageOf(context);
    await upstream.setFault('file', { kind: 'trickle', part: 'body' });
    const { outcome, ms } = await reload(sidecar.url, COLD, { deadline_s: 35 });
    context.expect(outcome).toMatchObject({ status: 'failed', path: null, refreshing: true });
    context.expect(outcome.warning?.code).toBe('deadline_exceeded');
    context.expect(outcome.warning?.message).toContain('The artifacts came at less than 64 KiB/s for 30 s.');
    context.expect(ms).toBeGreaterThan(34_900);
    context.expect(ms).toBeLessThan(atMost(35_000 + GRACE_MS));
  });

  test('Retry-After is honoured up to 10 s', async context => {
    const { upstream, sidecar } = await stageOf(context);
    const headers = { 'retry-after': '60' };
    await upstream.setFault('registry', { kind: 'status', status: 503, headers }, { first: 1 });
    const { outcome, ms } = await reload(sidecar.url, COLD);
    context.expect(outcome).toMatchObject({ status: 'loaded', attempts: 2 });
    context.expect(ms).toBeGreaterThan(9_900);
    context.expect(ms).toBeLessThan(atMost(10_000 + 2_000));
  });

  test('a registry that comes back is asked again, and its new version given', async context => {
    const { upstream, sidecar } = await stageOf(context);
    await upstream.setFault('registry', { kind: 'refused' });
    const refused = await reload(sidecar.url, WARM, { refresh_wait_s: 0.5 });
    context.expect(refused.outcome.status).toBe('stale');
    await upstream.clearFaults();
    upstream.addVersion({ name: 'warm', stage: 'Production', files: modelFiles('warm-2') });
    const found = await until(12_000, async () => {
      const { outcome } = await reload(sidecar.url, WARM);
      return outcome.version === '2' ? outcome : null;
    });
    context.expect(await wrongFiles(found.path, modelFiles('warm-2'))).toEqual([]);
  });

  test('another size than the listing says is artifact_corrupt', async context => {
    const { upstream, sidecar } = await stageOf(context);
    const listing = { '': [{ path: 'MLmodel', is_dir: false, file_size: 40 }] };
    upstream.addVersion({ name: 'size', stage: 'Production', files: { MLmodel: 'a: 1' }, listing });
    const { outcome } = await reload(sidecar.url, 'models:/size/Production', { deadline_s: 20 });
    context.expect(outcome).toMatchObject({ status: 'failed', warning: { code: 'artifact_corrupt' } });
    context.expect(outcome.warning?.message).toContain('MLmodel');
  });

  test('a listing of 10⁶ entries is refused, and the sidecar answers meanwhile', async context => {
    const { upstream, sidecar } = await stageOf(context);
    const entries = Array.from({ length: 1_000_000 }, (_, n) => ({
      path: `f${n}`,
      is_dir: false,
      file_size: 1,
    }));
    const listing = Buffer.from(JSON.stringify({ files: entries }));
    upstream.addVersion({
      name: 'million',
      stage: 'Production',
      files: modelFiles('m'),
      listing: { '': listing },
    });
    const answer = reload(sidecar.url, 'models:/million/Production', { deadline_s: 25 });
    const slowestMs = await slowestHealth(sidecar.url, answer);
    const { outcome, ms } = await answer;
    context.expect(outcome).toMatchObject({ status: 'failed', path: null, warning: { code: 'unsafe_path' } });
    context.expect(ms).toBeLessThan(atMost(25_000 + GRACE_MS));
    context.expect(slowestMs).toBeLessThan(atMost(1_000));
  });
});

/** Milliseconds of the slowest `/healthz` until `done` is. */
async function slowestHealth(url: string, done: Promise<unknown>): Promise<number> {
  let slowest = 0;
  const tick = () => new Promise(resolve => setTimeout(resolve, 20, 'tick'));
  const ended = done.then(() => 'ended');
  do {
    const started = performance.now();
    const { status } = await fetch(`${url}/healthz`);
    if (status !== 200) throw new Error(`/healthz answers ${status}`);
    slowest = Math.max(slowest, performance.now() - started);
  } while ((await Promise.race([ended, tick()])) === 'tick');
  return slowest;
}
