import { expect, test } from 'vitest';
import type { Caller } from '../../src/domain/caller.ts';
import { formatModelUri, type ModelUri, parseModelUri } from '../../src/domain/model-uri.ts';
import { Repair } from '../../src/reload/repair.ts';

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
  const done = new Repair(renewing).repair(URIS);
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
  const repair = new Repair(renewing);
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
  const repair = new Repair(renewing);
  const done = Promise.all([repair.repair(URIS.slice(0, 1)), repair.repair(URIS.slice(0, 1))]);
  await new Promise(resolve => setImmediate(resolve));
  await renewing.end();
  await done;
  expect(renewing.asked).toEqual(['models:/a/1']);
});
