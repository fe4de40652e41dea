import { expect, test } from 'vitest';
import { openStore } from './support.ts';

test('a commit does not wait for small files that another run goes on bringing', async () => {
  const { store } = await openStore();
  const [small, large] = [await store.intake(), await store.intake()];
  const blob = await small.takeBytes(Buffer.from('small'));
  const done = new AbortController();
  const bring = async () => {
    for (let n = 0; n < 500 && !done.signal.aborted; n++) await large.takeBytes(Buffer.from(`large ${n}`));
    return done.signal.aborted;
  };
  // Always one more in memory before the last batch is on the disk.
  const bringing = bring();
  await small.commit([blob]);
  done.abort();
  expect(await bringing).toBe(true);
  await Promise.all([small.close(), large.close()]);
});
