import { once } from 'node:events';
import { createServer as createHttpServer } from 'node:http';
import { createServer, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, onTestFinished, test } from 'vitest';
import { Transport } from '../../src/upstream/transport.ts';
import { atMost } from '../support/limits.ts';
import { DIRECT, listen } from './support.ts';

const FIRST_BYTE_MS = 600;

/** A port on which `answer` is done with each connection; its address and the connections that are open. */
async function raw(answer: (socket: Socket) => void) {
  const open = new Set<Socket>();
  const server = createServer(socket => {
    open.add(socket);
    socket
      .on('error', () => undefined)
      .once('close', () => open.delete(socket))
      .resume();
    answer(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    for (const socket of open) socket.destroy();
    server.close();
  });
  const address = server.address();
  return { url: `http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}`, open };
}

async function transport(proxy: Partial<(typeof DIRECT)['proxy']> = {}): Promise<Transport> {
  const options = { ...DIRECT, proxy: { ...DIRECT.proxy, ...proxy } };
  const made = await Transport.open(options, { connections: 32, firstByteMs: FIRST_BYTE_MS });
  onTestFinished(() => made.close());
  return made;
}

function get(url: string, signal = new AbortController().signal) {
  return { url: new URL(url), method: 'GET' as const, headers: {}, signal };
}

describe('the first byte', () => {
  test('that never comes ends the exchange and its connection', async () => {
    const { url, open } = await raw(() => undefined);
    const startedAt = performance.now();
    await expect((await transport()).request(get(url))).rejects.toMatchObject({
      code: 'UND_ERR_HEADERS_TIMEOUT',
    });
    expect(performance.now() - startedAt).toBeLessThan(atMost(FIRST_BYTE_MS + 300));
    await expect.poll(() => open.size).toBe(0);
  });

  test('is not that of an interim answer, however many come', async () => {
    const { url } = await raw(socket => {
      const timer = setInterval(() => socket.write('HTTP/1.1 103 Early Hints\r\n\r\n'), 50);
      socket.once('close', () => clearInterval(timer));
    });
    await expect((await transport()).request(get(url))).rejects.toMatchObject({
      code: 'UND_ERR_HEADERS_TIMEOUT',
    });
  });

  test('is not waited for in a storm of interim answers, which ends the exchange and its connection', async () => {
    let sent = 0;
    const { url, open } = await raw(socket => {
      const more = () => {
        if (socket.destroyed) return;
        sent += 100;
        socket.write('HTTP/1.1 103 Early Hints\r\n\r\n'.repeat(100), () => setTimeout(more, 1));
      };
      more();
    });
    const options = { ...DIRECT, proxy: DIRECT.proxy };
    const patient = await Transport.open(options, { connections: 1, firstByteMs: 60_000 });
    onTestFinished(() => patient.close());
    await expect(patient.request(get(url))).rejects.toThrow(/more than 32 interim answers/);
    await expect.poll(() => open.size).toBe(0);
    expect(sent).toBeLessThan(100_000);
  });

  test('is that of the answer behind a few interim ones', async () => {
    const { url } = await raw(socket =>
      socket.write(
        `${'HTTP/1.1 102 Processing\r\n\r\n'.repeat(32)}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok`,
      ),
    );
    const { statusCode, body } = await (await transport()).request(get(url));
    body.close();
    expect(statusCode).toBe(200);
  });

  test('is waited for as long, and no longer, behind a proxy that says nothing', async () => {
    const { url: proxy } = await raw(() => undefined);
    const via = await transport({ http: proxy, https: proxy });
    for (const url of ['http://mlflow.invalid/x', 'https://mlflow.invalid/x']) {
      const startedAt = performance.now();
      await expect(via.request(get(url))).rejects.toMatchObject({ code: 'UND_ERR_HEADERS_TIMEOUT' });
      expect(performance.now() - startedAt).toBeLessThan(atMost(FIRST_BYTE_MS + 300));
    }
  });

  test('that has come is the end of that limit', async () => {
    const url = await listen(
      createHttpServer((_, res) => {
        res.write('slow');
        setTimeout(() => res.end('ly'), 2 * FIRST_BYTE_MS);
      }),
    );
    const { body } = await (await transport()).request(get(url));
    let text = '';
    for await (const piece of body) text += Buffer.from(piece).toString();
    expect(text).toBe('slowly');
  });
});

test('what a receiver throws ends the exchange with that, and no more comes', async () => {
  const { url, open } = await raw(socket => {
    socket.write('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc');
    setTimeout(() => socket.write('def'), 20);
  });
  const stop = new Error('enough');
  const came: string[] = [];
  const receiver = {
    head: () => undefined,
    data: (chunk: Uint8Array) => {
      came.push(Buffer.from(chunk).toString());
      throw stop;
    },
  };
  await expect((await transport()).receive(get(url), receiver)).rejects.toBe(stop);
  await sleep(60);
  expect(came).toEqual(['abc']);
  await expect.poll(() => open.size).toBe(0);
});

test('a signal ends the exchange before there is a connection, while it waits and while a body comes', async () => {
  const reason = new Error('the deadline');
  const { url } = await raw(socket => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc'));
  const made = await transport();
  await expect(made.request(get(url, AbortSignal.abort(reason)))).rejects.toBe(reason);
  const controller = new AbortController();
  const { body } = await made.request(get(url, controller.signal));
  const reading = (async () => {
    for await (const piece of body) {
      expect(Buffer.from(piece).toString()).toBe('abc');
      controller.abort(reason);
    }
  })();
  await expect(reading).rejects.toBe(reason);
});
