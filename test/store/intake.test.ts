import { expect, test } from 'vitest';
import { Vanished } from '../../src/store/disk/vanished.ts';
import type { Intake } from '../../src/store/intake/intake.ts';
import { bodyOf, openStore } from './support.ts';

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

async function read(intake: Intake, blob: { size: number; sha256: string }, from = 0): Promise<string> {
  let text = '';
  const pieces = intake.read(blob, from, null, new AbortController().signal);
  for await (const piece of pieces) text += Buffer.from(piece).toString();
  return text;
}

test('what was taken in can be read from then on: in memory, aside, and as a blob', async () => {
  const { store } = await openStore();
  const [one, other] = [await store.intake(), await store.intake()];
  const small = await one.takeBytes(Buffer.from('a small file'));
  const large = await one.take(bodyOf('a large', ' file'), null);
  const empty = await one.takeBytes(Buffer.alloc(0));
  for (const blob of [small, large]) other.share(blob);
  const expectAll = async () => {
    for (const intake of [one, other]) {
      expect(await read(intake, small, 2)).toBe('small file');
      expect(await read(intake, large)).toBe('a large file');
      expect(await read(intake, empty)).toBe('');
    }
  };
  await expectAll();
  await one.commit([small, large]);
  await one.close();
  await expectAll();
  await other.close();
});

test('what was dropped with the last that wanted it cannot', async () => {
  const { store } = await openStore();
  const intake = await store.intake();
  const small = await intake.takeBytes(Buffer.from('a small file'));
  const large = await intake.take(bodyOf('a large file'), null);
  await intake.close();
  for (const blob of [small, large]) await expect(read(intake, blob)).rejects.toBeInstanceOf(Vanished);
});
