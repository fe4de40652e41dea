import { createServer } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { SidecarError } from '../../src/domain/errors.ts';
import { HealthProbe } from '../../src/upstream/health.ts';
import { ManualClock } from '../reload/support.ts';
import { clientFor, listen, serve } from './support.ts';

async function probing(baseUri: string) {
  const clock = new ManualClock();
  const stop = new AbortController();
  const client = await clientFor({ trusted: [] });
  return {
    clock,
    stop,
    probe: new HealthProbe({ client, baseUri, clock, timeoutMs: 5_000, stop: stop.signal }),
  };
}

async function spoken(probe: HealthProbe): Promise<NonNullable<HealthProbe['last']>> {
  for (let n = 0; n < 2_000; n++) {
    if (probe.last !== null) return probe.last;
    await sleep(10);
  }
  throw new Error('the probe did not end');
}

test('an MLflow that is well says so, under its path prefix', async () => {
  const upstream = await serve(() => ({ body: 'OK' }));
  const { probe, clock } = await probing(`${upstream.url}/prefix`);
  expect([probe.last, probe.words()]).toEqual([null, '']);
  probe.beside();
  expect(await spoken(probe)).toEqual({ ok: true, at: clock.now(), latencyMs: 0, error: null });
  expect(upstream.asked.map(({ method, url }) => [method, url])).toEqual([['GET', '/prefix/health']]);
  expect(probe.words()).toBe(" MLflow's own /health answers, so the server itself runs.");
});

test.each([
  [503, 'HTTP 503'],
  [404, 'HTTP 404'],
])('one that answers %i is not well', async (status, error) => {
  const upstream = await serve(() => ({ status, body: 'no' }));
  const { probe } = await probing(upstream.url);
  probe.beside();
  expect(await spoken(probe)).toMatchObject({ ok: false, error });
  expect(probe.words()).toBe(" MLflow's own /health fails too.");
});

test('one that refuses connections is told with the reason', async () => {
  const { probe } = await probing('http://127.0.0.1:1');
  probe.beside();
  expect(await spoken(probe)).toMatchObject({ ok: false, error: '/health: connection refused.' });
});

test('at most one is on its way, and none within 10 s of the one before', async () => {
  const upstream = await serve(() => ({ body: 'OK' }));
  const { probe, clock } = await probing(upstream.url);
  for (let n = 0; n < 100; n++) probe.beside();
  await spoken(probe);
  probe.beside();
  clock.advance(9_999);
  probe.beside();
  await sleep(50);
  expect(upstream.asked).toHaveLength(1);
  clock.advance(1);
  probe.beside();
  await expect.poll(() => upstream.asked).toHaveLength(2);
});

test('none where a question was answered within 10 s', async () => {
  const upstream = await serve(() => ({ body: 'OK' }));
  const { probe, clock } = await probing(upstream.url);
  probe.answered();
  clock.advance(9_999);
  probe.beside();
  await sleep(50);
  expect(upstream.asked).toEqual([]);
});

test('what it said over 10 s ago explains nothing any more', async () => {
  const upstream = await serve(() => ({ body: 'OK' }));
  const { probe, clock } = await probing(upstream.url);
  probe.beside();
  await spoken(probe);
  clock.advance(10_001);
  expect(probe.words()).toBe('');
});

test('while the next one is on its way, what the one before said explains nothing, but is still told', async () => {
  let isFrozen = false;
  const server = createServer((_, response) => {
    if (!isFrozen) response.end('OK');
  });
  const { probe, clock, stop } = await probing(await listen(server));
  probe.beside();
  const well = await spoken(probe);
  isFrozen = true;
  clock.advance(3_600_000);
  probe.beside();
  expect([probe.words(), probe.last]).toEqual(['', well]);
  stop.abort(new SidecarError('internal', 'stopping'));
  for (let n = 0; n < 2_000 && probe.last === well; n++) await sleep(10);
  expect(probe.words()).toBe(" MLflow's own /health fails too.");
});

test('the end of the process ends one that hangs, and leaves no connection', async () => {
  const server = createServer(() => undefined);
  const { probe, stop } = await probing(await listen(server));
  probe.beside();
  await sleep(100);
  stop.abort(new SidecarError('internal', 'stopping'));
  expect(await spoken(probe)).toMatchObject({ ok: false, error: 'stopping' });
  const connections = () =>
    new Promise<number>(resolve => server.getConnections((_, count) => resolve(count)));
  await expect.poll(connections).toBe(0);
});
