import { execFile } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { open, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, expect, onTestFinished, test, vi } from 'vitest';
import { OpenFile, Unreadable } from '../../src/store/disk/open-file.ts';
import { temporaryDirectory } from './support.ts';

const STAYS = new AbortController().signal;

afterEach(() => void vi.useRealTimers());

/** A path that hangs whoever opens it until `goOn`. */
async function hanging() {
  const path = join(await temporaryDirectory(), 'pipe');
  await promisify(execFile)('mkfifo', [path]);
  // Not by a thread: the readers may have them all.
  const goOn = () => closeSync(openSync(path, 'r+'));
  onTestFinished(goOn);
  return path;
}

test('a part is read, whatever becomes of the path', async () => {
  const path = join(await temporaryDirectory(), 'file');
  const content = Buffer.from('abcdefghij'.repeat(100_000));
  await writeFile(path, content);
  const file = await OpenFile.open(path, STAYS);
  await unlink(path);
  const pieces: Buffer[] = [];
  for await (const piece of file.read(7, 999_999)) pieces.push(Buffer.from(piece));
  file.close();
  expect(pieces.length).toBeGreaterThan(2);
  expect(Buffer.concat(pieces).equals(content.subarray(7, 999_999))).toBe(true);
});

test('one that is not there says so', async () => {
  const none = join(await temporaryDirectory(), 'none');
  await expect(OpenFile.open(none, STAYS)).rejects.toMatchObject({ code: 'artifact_corrupt', isGone: true });
});

test('a disk that hangs is waited for at most 5 s', async () => {
  const path = await hanging();
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  const opening = OpenFile.open(path, STAYS).catch((error: unknown) => error);
  await vi.advanceTimersByTimeAsync(4_999);
  expect(await Promise.race([opening, Promise.resolve('waits')])).toBe('waits');
  await vi.advanceTimersByTimeAsync(1);
  const error = await opening;
  expect(error).toBeInstanceOf(Unreadable);
  expect(error).toMatchObject({ code: 'deadline_exceeded', isGone: false });
});

test('one that hangs in the middle of a file is, too, and by nobody who has left', async () => {
  const path = join(await temporaryDirectory(), 'file');
  await writeFile(path, Buffer.alloc(1_000_000));
  const handle = await open(path);
  onTestFinished(() => handle.close());
  const leaving = new AbortController();
  const files = [await OpenFile.open(path, STAYS), await OpenFile.open(path, leaving.signal)] as const;
  const goOn = Promise.withResolvers<{ readonly bytesRead: number }>();
  const read = vi.spyOn(Object.getPrototypeOf(handle), 'read').mockReturnValue(goOn.promise);
  onTestFinished(() => read.mockRestore());
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  const [stays, leaves] = files.map(file =>
    file
      .read(0, 1_000_000)
      .next()
      .catch((error: unknown) => error),
  );
  const left = new Error('left');
  leaving.abort(left);
  expect(await leaves).toBe(left);
  await vi.advanceTimersByTimeAsync(5_000);
  expect(await stays).toMatchObject({ code: 'deadline_exceeded' });
  goOn.resolve({ bytesRead: 0 });
  for (const file of files) file.close();
});
