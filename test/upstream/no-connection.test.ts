import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { atMost } from '../support/limits.ts';
import { call, clientFor } from './support.ts';

/** Takes connections and never speaks: no TLS handshake comes to an end. */
async function mute(): Promise<URL> {
  const sockets: Socket[] = [];
  const server = createServer(socket => sockets.push(socket.on('error', () => undefined)));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the system gave no port');
  return new URL(`https://127.0.0.1:${address.port}`);
}

test('requests wait for their handshakes beside each other, not one after the other', async () => {
  const url = await mute();
  const client = await clientFor({ trusted: [] });
  const started = performance.now();
  const ask = () => client.send('MLflow', { url, method: 'GET' }, call());
  const answers = await Promise.allSettled(Array.from({ length: 8 }, ask));
  expect(answers).toMatchObject(Array(8).fill({ reason: { code: 'mlflow_timeout' } }));
  expect(performance.now() - started).toBeLessThan(atMost(6_000));
});

test('a request that has no connection yet ends with its signal', async () => {
  const url = await mute();
  const client = await clientFor({ trusted: [] });
  const reason = new Error('enough');
  const signal = abortedIn(100, reason);
  const started = performance.now();
  await expect(client.send('MLflow', { url, method: 'GET' }, { ...call(), signal })).rejects.toBe(reason);
  expect(performance.now() - started).toBeLessThan(atMost(2_000));
});

function abortedIn(ms: number, reason: Error): AbortSignal {
  const controller = new AbortController();
  setTimeout(() => controller.abort(reason), ms);
  return controller.signal;
}
