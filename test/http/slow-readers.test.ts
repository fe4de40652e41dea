import { once } from 'node:events';
import { createServer } from 'node:http';
import { connect } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { SlowReaders } from '../../src/http/slow-readers.ts';
import { bytesOf, listening, readAll } from './support.ts';

const BIG = Buffer.alloc(32 * 1024 * 1024);

async function start(readWithinMs: number) {
  const readers = new SlowReaders(readWithinMs);
  const port = await listening(
    createServer((req, res) => {
      readers.watch(res);
      res.end(req.url === '/big' ? BIG : 'small');
    }),
  );
  const socket = connect(port, '127.0.0.1').on('error', () => undefined);
  onTestFinished(() => void socket.destroy());
  return { readers, socket };
}

test('an answer that nobody takes off is held for its time, and counted', async () => {
  const { readers, socket } = await start(1_000);
  socket.pause().write(bytesOf('GET', '/big'));
  await expect.poll(() => readers.unreadBytes, { interval: 10 }).toBeGreaterThan(BIG.length / 4);
  const startedAt = performance.now();
  await expect.poll(() => readers.unreadBytes).toBe(0);
  expect(performance.now() - startedAt).toBeGreaterThan(500);
  socket.resume();
  await once(socket, 'close');
  expect(socket.bytesRead).toBeLessThan(BIG.length);
});

test('one that is read a little at a time is not held for longer', async () => {
  const { readers, socket } = await start(1_000);
  socket.pause().write(bytesOf('GET', '/big'));
  await expect.poll(() => readers.unreadBytes, { interval: 10 }).toBeGreaterThan(BIG.length / 4);
  const reading = setInterval(() => socket.read(1_000), 20);
  onTestFinished(() => clearInterval(reading));
  await expect.poll(() => readers.unreadBytes).toBe(0);
  socket.resume();
  await once(socket, 'close');
  expect(socket.bytesRead).toBeLessThan(BIG.length);
});

test('a client that reads gets all of it', async () => {
  const { readers, socket } = await start(10_000);
  socket.write(bytesOf('GET', '/big'));
  expect((await readAll(socket)).length).toBeGreaterThan(BIG.length);
  await expect.poll(() => readers.unreadBytes).toBe(0);
});
