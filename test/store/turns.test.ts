import { expect, test } from 'vitest';
import { inTurn } from '../../src/store/disk/turns.ts';

const STAYS = new AbortController().signal;

test('a disk that hangs holds a few readers at once, and nobody whose time is over', async () => {
  const leaving = new AbortController();
  const disk = Promise.withResolvers<number>();
  let begun = 0;
  const read = () => {
    begun++;
    return disk.promise;
  };
  const reading = Array.from({ length: 100 }, () => inTurn(leaving.signal, read));
  const late = new Error('late');
  leaving.abort(late);
  for (const one of await Promise.allSettled(reading)) expect(one).toMatchObject({ reason: late });
  const after = inTurn(STAYS, read);
  expect(begun).toBe(8);
  disk.resolve(1);
  expect(await after).toBe(1);
  // Those who left do not read what nobody waits for.
  expect(begun).toBe(9);
});
