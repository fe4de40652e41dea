import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { atExit } from '../../test/support/at-exit.ts';

const TICK_MS = 10;

/** A loopback port that passes on to `target`, no connection giving more than so many bytes a second. */
export async function cappedProxy(target: string, bytesPerSecond: number): Promise<string> {
  const { hostname, port } = new URL(target);
  const server = createServer(client => {
    const upstream = connect({ host: hostname, port: Number(port) });
    for (const socket of [client, upstream]) {
      socket
        .on('error', () => undefined)
        .once('close', () => {
          client.destroy();
          upstream.destroy();
        });
    }
    client.pipe(upstream);
    throttle(upstream, client, (bytesPerSecond * TICK_MS) / 1_000);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  atExit(() => void server.close());
  const address = server.address();
  return `http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}`;
}

/** By the clock, not by the tick: a busy machine misses some. */
function throttle(from: Socket, to: Socket, bytesPerTick: number): void {
  const startedAt = performance.now();
  let sent = 0;
  let isOver = false;
  from.once('end', () => {
    isOver = true;
  });
  from.pause();
  const timer = setInterval(() => {
    const allowed = ((performance.now() - startedAt) / TICK_MS) * bytesPerTick - sent;
    const length = Math.min(Math.floor(allowed), from.readableLength);
    const chunk: Buffer | null = length > 0 ? from.read(length) : from.read(0);
    if (chunk !== null) {
      sent += chunk.length;
      to.write(chunk);
    } else if (isOver) to.end();
  }, TICK_MS);
  to.once('close', () => clearInterval(timer));
}
