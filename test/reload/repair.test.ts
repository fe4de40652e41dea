import { expect, test } from 'vitest';
import type { Caller } from '../../src/domain/caller.ts';
import type { SidecarEvent } from '../../src/domain/events.ts';
import { formatModelUri, type ModelUri, parseModelUri } from '../../src/domain/model-uri.ts';
import { Repair } from '../../src/reload/repair.ts';
import { ManualClock } from './support.ts';

const URIS = ['models:/a/1', 'models:/b@champion', 'models:/c/Production', 'models:/d/4'].map(parseModelUri);

/** Renews at a word, and notes what was asked. */
class Renewing {
  readonly asked: string[] = [];
  readonly callers: Caller[] = [];
  readonly #ends: PromiseWithResolvers<void>[] = [];

  renew(uri: ModelUri, caller: Caller): Promise<void> {
    this.asked.push(formatModelUri(uri));
    this.callers.push(caller);
    const end = Promise.withResolvers<void>();
    this.#ends.push(end);
    return end.promise;
  }

  async end(error?: Error): Promise<void> {
    const end = this.#ends.shift();
    if (error === undefined) end?.resolve();
    else end?.reject(error);
    await new Promise(resolve => setImmediate(resolve));
  }
}

test('two are fetched at once, with the sidecar’s own credential', async () => {
  const renewing = new Renewing();
  const done = new Repair(renewing, new ManualClock()).repair(URIS);
  await new Promise(resolve => setImmediate(resolve));
  expect(renewing.asked).toEqual(['models:/a/1', 'models:/b@champion']);
  await renewing.end();
  expect(renewing.asked).toHaveLength(3);
  for (let n = 0; n < 3; n++) await renewing.end();
  await done;
  expect(renewing.asked).toEqual(URIS.map(formatModelUri));
  expect(renewing.callers.every(caller => caller.authorization === null)).toBe(true);
});

test('what could not be fetched is tried again, what was is not', async () => {
  const renewing = new Renewing();
  const repair = new Repair(renewing, new ManualClock());
  const done = repair.repair(URIS.slice(0, 2));
  await new Promise(resolve => setImmediate(resolve));
  await renewing.end(new Error('MLflow is down'));
  await renewing.end();
  await done;
  const again = repair.retry();
  await new Promise(resolve => setImmediate(resolve));
  await renewing.end();
  await again;
  await repair.retry();
  expect(renewing.asked).toEqual(['models:/a/1', 'models:/b@champion', 'models:/a/1']);
});

test('what waits to be fetched already is not fetched twice', async () => {
  const renewing = new Renewing();
  const repair = new Repair(renewing, new ManualClock());
  const done = Promise.all([repair.repair(URIS.slice(0, 1)), repair.repair(URIS.slice(0, 1))]);
  await new Promise(resolve => setImmediate(resolve));
  await renewing.end();
  await done;
  expect(renewing.asked).toEqual(['models:/a/1']);
});

const CLOSED: SidecarEvent = {
  type: 'breaker_changed',
  name: 'registry',
  host: 'mlflow:5000',
  from: 'half-open',
  to: 'closed',
  reason: null,
};

const FINISHED: SidecarEvent = {
  type: 'run_finished',
  status: 'unchanged',
  origin: {
    runId: 'r',
    modelUri: 'models:/other/1',
    caller: { requestId: '', airflow: {}, authorization: null },
  },
  version: '1',
  phases: {},
  fetched: null,
};

test.each([CLOSED, FINISHED])(
  '$type: what could not be fetched is tried again then, at most once a minute',
  async event => {
    const renewing = new Renewing();
    const clock = new ManualClock();
    const repair = new Repair(renewing, clock);
    const settled = () => new Promise(resolve => setImmediate(resolve));
    repair.heard(event);
    const done = repair.repair(URIS.slice(0, 1));
    await settled();
    await renewing.end(new Error('MLflow is down'));
    await done;
    clock.advance(59_999);
    repair.heard(event);
    await settled();
    expect(renewing.asked).toHaveLength(1);
    clock.advance(1);
    repair.heard({ ...CLOSED, to: 'open' });
    await settled();
    expect(renewing.asked).toHaveLength(1);
    for (let n = 0; n < 10; n++) repair.heard(event);
    await settled();
    expect(renewing.asked).toEqual(['models:/a/1', 'models:/a/1']);
    clock.advance(60_000);
    repair.heard(event);
    await settled();
    expect(renewing.asked).toHaveLength(2);
    await renewing.end();
    clock.advance(60_000);
    repair.heard(event);
    await settled();
    expect(renewing.asked).toHaveLength(2);
  },
);
