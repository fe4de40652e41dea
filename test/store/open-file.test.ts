import { execFile } from 'node:child_process';
import { open, symlink, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, expect, onTestFinished, test, vi } from 'vitest';
import { OpenFile, Unreadable } from '../../src/store/disk/open-file.ts';
import { hangThreads, temporaryDirectory } from './support.ts';

const STAYS = new AbortController().signal;

afterEach(() => void vi.useRealTimers());

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
  const path = join(await temporaryDirectory(), 'file');
  await writeFile(path, 'x');
  await hangThreads();
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

test('a pipe, a link and a directory in its place hold no thread', async () => {
  const dir = await temporaryDirectory();
  const path = join(dir, 'pipe');
  await promisify(execFile)('mkfifo', [path]);
  await symlink('/etc/hostname', join(dir, 'link'));
  await expect(OpenFile.open(join(dir, 'link'), STAYS)).rejects.toMatchObject({ isGone: true });
  for (const other of [path, dir]) {
    const file = await OpenFile.open(other, STAYS);
    await expect(file.read(0, 10).next()).rejects.toThrow();
    file.close();
  }
});

test('900 readers that do not get on hold a bounded amount of memory, and what they get is right', async () => {
  const path = join(await temporaryDirectory(), 'file');
  const content = Buffer.alloc(600_000, 'abcdefg');
  await writeFile(path, content);
  const file = await OpenFile.open(path, STAYS);
  const before = process.memoryUsage().arrayBuffers;
  const readers = Array.from({ length: 900 }, () => file.read(0, content.byteLength));
  const firsts = await Promise.all(readers.map(reader => reader.next()));
  // Of 256 KiB each, with another in work, they took 460 MB.
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(80 * 1024 * 1024);
  const pieces = firsts.slice(-1).map(({ value }) => Buffer.from(value ?? []));
  for await (const piece of readers.at(-1) ?? []) pieces.push(Buffer.from(piece));
  expect(Buffer.concat(pieces).equals(content)).toBe(true);
  await Promise.all(readers.map(reader => reader.return(undefined)));
  const again = file.read(0, content.byteLength);
  expect((await again.next()).value?.byteLength).toBe(256 * 1024);
  await again.return(undefined);
  file.close();
});
