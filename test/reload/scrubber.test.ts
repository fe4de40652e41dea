import { chmod, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { systemClock } from '../../src/domain/clock.ts';
import { EventBus, type SidecarEvent } from '../../src/domain/events.ts';
import { manifestOf } from '../../src/domain/manifest.ts';
import { formatModelUri, type ModelUri, parseModelUri } from '../../src/domain/model-uri.ts';
import { scopeOf } from '../../src/domain/scope.ts';
import { msToNextPass, Scrubber } from '../../src/reload/scrubber.ts';
import { Cache } from '../../src/store/cache.ts';
import { ofVersion } from '../store/support.ts';
import { atMost } from '../support/limits.ts';
import { ManualClock, VERSION } from './support.ts';

const MINUTE_MS = 60_000;
const DAY_MS = 24 * 60 * MINUTE_MS;
const OWN = scopeOf('http://mlflow:5000', null, null);
const CALLERS = scopeOf('http://mlflow:5000', null, 'Bearer x');
const URI = parseModelUri('models:/churn/Production');

test('the first pass comes some minutes after the start, the next a day after each began', () => {
  const startedAt = 1_000;
  expect(msToNextPass({ startedAt, begunAt: null }, 5 * MINUTE_MS, startedAt)).toBe(5 * MINUTE_MS);
  expect(msToNextPass({ startedAt, begunAt: null }, 5 * MINUTE_MS, startedAt + DAY_MS)).toBe(0);
  const begunAt = startedAt + 5 * MINUTE_MS;
  expect(msToNextPass({ startedAt, begunAt }, 5 * MINUTE_MS, begunAt + 45 * MINUTE_MS)).toBe(
    DAY_MS - 45 * MINUTE_MS,
  );
  expect(msToNextPass({ startedAt, begunAt }, 5 * MINUTE_MS, begunAt + 2 * DAY_MS)).toBe(0);
});

async function* bodyOf(text: string): AsyncGenerator<Uint8Array> {
  yield Buffer.from(text);
}

/** A cache with one version, published for the sidecar itself and for a caller. */
async function filled() {
  const dir = await mkdtemp(join(tmpdir(), 'sidecar-scrubber-'));
  const seen: SidecarEvent[] = [];
  const events = new EventBus();
  events.subscribe(event => seen.push(event));
  const cache = new Cache({ dir, own: OWN, clock: systemClock, events });
  await cache.open();
  onTestFinished(async () => {
    await cache.close();
    await rm(dir, { recursive: true, force: true });
  });
  const store = cache.store();
  const intake = await store.intake();
  const blob = await intake.take(bodyOf('the model'), null);
  const manifest = manifestOf([{ path: 'MLmodel', ...blob }]);
  const { snapshot } = await store.commit(OWN, ofVersion([VERSION.source]), manifest, intake);
  await intake.close();
  const published = { version: VERSION, snapshot, digest: manifest.digest, files: 1, bytes: 9 };
  for (const scope of [OWN, CALLERS]) await store.refs.publish(scope, URI, published, 1, Date.now());
  const renewed: string[] = [];
  const reloader = { renew: async (uri: ModelUri) => void renewed.push(formatModelUri(uri)) };
  const options = { cache, isOwner: () => true, reloader, clock: systemClock, events };
  const damage = async (): Promise<void> => {
    const path = join(store.layout.snapshot(snapshot), 'MLmodel');
    await chmod(path, 0o644);
    await writeFile(path, 'the mOdel');
  };
  return { store, seen, renewed, options, damage, blob, snapshot };
}

test('what is damaged is told, and the sidecar’s own ref fetched again', async () => {
  const { store, seen, renewed, options, damage, blob, snapshot } = await filled();
  await damage();
  await new Scrubber(options).pass(store);
  expect(seen.slice(-2)).toEqual([
    {
      type: 'blob_damaged',
      path: `snapshots/${snapshot}/MLmodel`,
      sha256: blob.sha256,
      size: 9,
      found: expect.stringMatching(/^holds other bytes, whose sha256 is /),
      snapshots: [snapshot],
      modelUris: ['models:/churn/Production'],
      error: null,
    },
    {
      type: 'scrub_finished',
      files: expect.any(Number),
      bytes: expect.any(Number),
      damaged: 1,
      durationMs: expect.any(Number),
    },
  ]);
  expect(renewed).toEqual(['models:/churn/Production']);
  expect(store.refs.get(CALLERS, URI).published).toBeNull();
  expect(await readdir(store.layout.snapshots)).toEqual([]);
});

test('what could not be fetched is fetched as soon as MLflow answers again, until the process ends', async () => {
  const { store, options, damage } = await filled();
  await damage();
  const clock = new ManualClock();
  let asked = 0;
  const renew = async () => {
    asked++;
    throw new Error('MLflow is down');
  };
  const scrubber = new Scrubber({ ...options, clock, reloader: { renew } });
  await scrubber.pass(store);
  expect(asked).toBe(1);
  const back = { name: 'registry', host: 'mlflow', from: 'half-open', to: 'closed', reason: null } as const;
  const answers = async () => {
    clock.advance(60_000);
    options.events.emit({ type: 'breaker_changed', ...back });
    await new Promise(resolve => setImmediate(resolve));
  };
  await answers();
  expect(asked).toBe(2);
  await scrubber.stop();
  await answers();
  expect(asked).toBe(2);
});

test('it is slow on purpose', async () => {
  const { store, options } = await filled();
  const startedAt = performance.now();
  // Nine bytes cost as much as a page, each of the times that they are looked at: as a snapshot's file, and as a blob.
  await new Scrubber({ ...options, bytesPerSecond: 40_960 }).pass(store);
  expect(performance.now() - startedAt).toBeGreaterThan(150);
});

test('a pass begins by itself, and ends at once when the process does', async () => {
  const { seen, options } = await filled();
  const slow = new Scrubber({ ...options, scrubAfterMs: 0, bytesPerSecond: 1 });
  slow.start();
  await new Promise(resolve => setTimeout(resolve, 100));
  const startedAt = performance.now();
  await slow.stop();
  expect(performance.now() - startedAt).toBeLessThan(atMost(900));
  const quick = new Scrubber({ ...options, scrubAfterMs: 0 });
  quick.start();
  onTestFinished(() => quick.stop());
  await expect.poll(() => seen.filter(event => event.type === 'scrub_finished')).toHaveLength(1);
  expect(seen.filter(event => event.type === 'cache_unusable')).toEqual([]);
});

test('a process that does not own the cache leaves it alone', async () => {
  const { seen, options, damage } = await filled();
  await damage();
  let asked = 0;
  const isOwner = (): boolean => {
    asked++;
    return false;
  };
  const scrubber = new Scrubber({ ...options, isOwner, scrubAfterMs: 0 });
  scrubber.start();
  onTestFinished(() => scrubber.stop());
  await expect.poll(() => asked).toBe(1);
  await new Promise(resolve => setTimeout(resolve, 100));
  expect(seen.map(event => event.type)).toEqual(['cache_recovered']);
});
